/*
 * What Debian's libstdc++ and libgcc want of glibc and musl does not have. Linked with them it is
 * a C++ library for musl that can do what Bun asks of it; exceptions are not among that.
 */
#include <stdlib.h>

char __libc_single_threaded;

unsigned long __isoc23_strtoul(const char *text, char **end, int base)
{
	return strtoul(text, end, base);
}

int _dl_find_object(void *address, void *result)
{
	return -1;
}

unsigned int arc4random(void)
{
	abort();
}

unsigned long __strftime_l(void)
{
	abort();
}

void _ZNSi6ignoreEl(void)
{
	abort();
}

void _ZNSt13basic_istreamIwSt11char_traitsIwEE6ignoreEl(void)
{
	abort();
}

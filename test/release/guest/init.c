/*
 * The first process of a system that has nothing but the C library, the executable and this: no
 * shell, no liburing, no other program. It makes a disk of a file, reads and writes it past the
 * page cache, deletes it, and finds in the file what was written to the disk.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE (16 << 20)
#define PIECE (256 << 10)

static void end(const char *what, const char *on)
{
	if (what)
		printf("FAILED: %s %s: %s\n", what, on, strerror(errno));
	else
		printf("ALL WELL\n");
	fflush(stdout);
	sync();
	reboot(RB_AUTOBOOT); /* QEMU ends at it */
}

static int must(int result, const char *what, const char *on)
{
	if (result < 0)
		end(what, on);
	return result;
}

static void attach(const char *kind, const char *where)
{
	must(mount("none", where, kind, 0, NULL), "mount", where);
}

static void load_module(const char *path)
{
	int fd = must(open(path, O_RDONLY | O_CLOEXEC), "open", path);
	must(syscall(SYS_finit_module, fd, "", 0), "finit_module", path);
	close(fd);
}

static void make_file(const char *path)
{
	int fd = must(open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644), "open", path);

	must(ftruncate(fd, SIZE), "ftruncate", path);
	close(fd);
}

/* Runs a program with an environment that has nothing in it. */
static void run(char *const argv[])
{
	char *none[] = { NULL };
	int status;
	pid_t pid = must(fork(), "fork", argv[0]);

	if (pid == 0) {
		execve(argv[0], argv, none);
		_exit(127);
	}
	must(waitpid(pid, &status, 0), "waitpid", argv[0]);
	errno = 0;
	if (status != 0)
		end("status", argv[1]);
	printf("ok: %s %s\n", argv[0], argv[1]);
}

/* Each piece differs, and so does each word of it. */
static void fill(uint32_t *words, int piece)
{
	for (int i = 0; i < PIECE / 4; i++)
		words[i] = piece * 2654435761u + i;
}

static void write_pieces(const char *path, uint32_t *words)
{
	int fd = must(open(path, O_RDWR | O_DIRECT | O_CLOEXEC), "open", path);
	uint64_t size = 0;

	must(ioctl(fd, BLKGETSIZE64, &size), "BLKGETSIZE64", path);
	if (size != SIZE)
		end("size", path);
	for (int piece = 0; piece < SIZE / PIECE; piece++) {
		fill(words, piece);
		if (pwrite(fd, words, PIECE, (off_t)piece * PIECE) != PIECE)
			end("write", path);
	}
	must(fsync(fd), "fsync", path);
	close(fd);
	printf("ok: written %s\n", path);
}

static void read_pieces(const char *path, int flags, uint32_t *words, uint32_t *expected)
{
	int fd = must(open(path, O_RDONLY | flags | O_CLOEXEC), "open", path);

	for (int piece = 0; piece < SIZE / PIECE; piece++) {
		fill(expected, piece);
		if (pread(fd, words, PIECE, (off_t)piece * PIECE) != PIECE)
			end("read", path);
		if (memcmp(words, expected, PIECE))
			end("other bytes in", path);
	}
	close(fd);
	printf("ok: read %s\n", path);
}

int main(void)
{
	uint32_t *words = aligned_alloc(4096, PIECE), *expected = aligned_alloc(4096, PIECE);

	setvbuf(stdout, NULL, _IOLBF, 0);
	attach("proc", "/proc");
	attach("sysfs", "/sys");
	attach("devtmpfs", "/dev");
	attach("tmpfs", "/run");
	load_module("/ublk_drv.ko");
	make_file("/disk.img");

	run((char *[]){ "/ublk", "--version", NULL });
	run((char *[]){ "/ublk", "add", "-t", "loop", "-f", "/disk.img", NULL });
	write_pieces("/dev/ublkb0", words);
	read_pieces("/dev/ublkb0", O_DIRECT, words, expected);
	run((char *[]){ "/ublk", "del", "-n", "0", NULL });
	errno = 0;
	if (access("/dev/ublkb0", F_OK) == 0)
		end("still there:", "/dev/ublkb0");
	read_pieces("/disk.img", 0, words, expected);

	run((char *[]){ "/ublk", "add", "-t", "qcow2", "-f", "/disk.qcow2", NULL });
	write_pieces("/dev/ublkb0", words);
	read_pieces("/dev/ublkb0", O_DIRECT, words, expected);
	run((char *[]){ "/ublk", "del", "-a", NULL });
	run((char *[]){ "/ublk", "check", "/disk.qcow2", NULL });
	end(NULL, NULL);
}

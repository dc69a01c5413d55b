/** Mount namespaces, and what is mounted in them. Each call throws SysError. */

import { c, check } from "./c_library.ts";

const CLONE_NEWNS = 0x00020000;
const CLONE_FS = 0x200;
const MS_REC = 0x4000;
const MS_PRIVATE = 1 << 18;
const MNT_DETACH = 2;

/** A mount namespace of its own for the calling thread, and for what it starts afterwards. */
export function unshareMounts(): void {
  check(c.unshare(CLONE_NEWNS), "unshare", "CLONE_NEWNS");
}

/**
 * The calling thread goes to the mount namespace that `fd` stands for; threads that it has started
 * meanwhile stay where they are.
 */
export function enterMounts(fd: number): void {
  // EINVAL while a thread that was started meanwhile shares root and directory with us.
  check(c.unshare(CLONE_FS), "unshare", "CLONE_FS");
  check(c.setns(fd, CLONE_NEWNS), "setns", "CLONE_NEWNS");
}

export function chroot(path: string): void {
  check(c.chroot(path), "chroot", path);
}

/** Nothing mounted or unmounted here reaches any other namespace. */
export function makeMountsPrivate(): void {
  check(c.mount("none", "/", null, MS_REC | MS_PRIVATE, null), "mount", "/");
}

export function detachMount(path: string): void {
  check(c.umount2(path, MNT_DETACH), "umount2", path);
}

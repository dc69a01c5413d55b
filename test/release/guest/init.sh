#!/bin/busybox sh
# The first process of the arm64 guest: a file becomes a disk, the disk a file system, which
# outlives the device.

say() { echo "ok: $*"; }
end() {
  echo "$1"
  sync
  busybox reboot -f # QEMU ends at it
}
must() { "$@" || end "FAILED: $*"; }

export PATH=/bin:/sbin:/usr/bin:/usr/sbin
for one in proc:/proc sysfs:/sys devtmpfs:/dev tmpfs:/run; do
  must busybox mount -t "${one%:*}" none "${one#*:}"
done
must busybox insmod /ublk_drv.ko
must busybox truncate -s 256M /disk.img
must /ublk --version && say version
for disk in "-t loop -f /disk.img" "-t qcow2 -f /disk.qcow2"; do
  must /ublk add $disk && say add
  must /sbin/mke2fs -q -t ext4 /dev/ublkb0 && say mkfs
  must busybox mount /dev/ublkb0 /mnt && say mount
  must busybox cp -r /etc /ublk_drv.ko /mnt
  must busybox umount /mnt
  must /ublk del -n 0 && say del
  [ ! -e /dev/ublkb0 ] || end "FAILED: /dev/ublkb0 is still there"

  must /ublk add $disk --read-only
  must /sbin/e2fsck -f -n /dev/ublkb0
  must busybox mount -o ro /dev/ublkb0 /mnt
  must busybox cmp /ublk_drv.ko /mnt/ublk_drv.ko
  must busybox umount /mnt
  must /ublk del -a && say kept
done
must /ublk check /disk.qcow2
must /sbin/e2fsck -f -n /disk.img && say image
end "ALL WELL"

#!/bin/busybox sh
# Process 1 of the test machine: makes it look like a freshly booted Linux with cgroup v2, runs /test.sh
# and powers off. The kernel's messages go to the first serial port, the test's output to the second.

if [ "$1" != second ]; then
    # pivot_root refuses the initial ramfs, and pods may want it: move to a root that is a mount.
    /bin/busybox mkdir /root.new
    /bin/busybox mount -t tmpfs -o mode=0755 root /root.new
    for entry in /*; do
        [ "$entry" = /root.new ] || /bin/busybox cp -a "$entry" /root.new/
    done
    exec /bin/busybox switch_root /root.new /init second
fi

/bin/busybox --install -s /bin
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root TERM=dumb

mkdir -p /proc /sys /dev /run /tmp /var /root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/shm /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t devpts devpts /dev/pts
for directory in run tmp var; do mount -t tmpfs -o mode=1777 tmpfs /$directory; done
mount -t cgroup2 cgroup2 /sys/fs/cgroup
# What systemd does for the children of the root.
echo "+cpu +memory +pids" > /sys/fs/cgroup/cgroup.subtree_control
hostname test-machine
ip link set lo up

# In the order of their dependencies; a failure shows on the console and then in the test.
while read -r module; do insmod "/modules/$module"; done < /modules/order

stty -F /dev/ttyS1 raw
read -r uptime _ < /proc/uptime
echo "[vm: begin $uptime]" > /dev/ttyS1
sh /test.sh < /dev/null > /dev/ttyS1 2>&1
echo "[vm: end $?]" > /dev/ttyS1
sync
poweroff -f

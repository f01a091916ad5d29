# What was written in any order and by any call is read back.
set -e
common="--directory=$MNT --verify=crc32c --verify_fatal=1 --do_verify=1 --size=24m --output=$WORK/fio.log --group_reporting"
run() { fio $common "$@" || { tail -30 "$WORK/fio.log"; exit 1; }; }
run --name=random --rw=randwrite --bs=4k --ioengine=psync --fsync=64
run --name=odd --rw=randwrite --bs=512-70k --bs_unaligned --ioengine=psync
run --name=direct --rw=randwrite --bs=64k --direct=1 --ioengine=libaio --iodepth=16
run --name=mapped --rw=randwrite --bs=4k --ioengine=mmap
run --name=jobs --rw=randrw --bs=16k --ioengine=psync --numjobs=4 --size=8m
run --name=vectors --rw=write --bs=256k --ioengine=vsync --fallocate=posix

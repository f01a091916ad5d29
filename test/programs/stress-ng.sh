# Stressors of file systems, a few seconds each. --fsize is one that has brought other mounts to a halt.
cd "$MNT"
failed=
for stressor in fsize access chmod chown dentry dir dirdeep dirmany fallocate fcntl filename flock fpunch fstat getdent \
  hdd io iomix lockf lockofd link locka metamix mknod mmapaddr open readahead rename seek sendfile symlink sync-file \
  touch truncate unlink utime xattr; do
  case " $(stress-ng --stressors 2>/dev/null) " in *" $stressor "*) ;; *) continue ;; esac
  timeout -k 5 60 stress-ng --$stressor 1 --timeout 2 --hdd-bytes 16m --iomix-bytes 16m --fallocate-bytes 16m \
    --readahead-bytes 16m --seek-size 16m --temp-path "$MNT" --verify > "$WORK/stress.log" 2>&1
  status=$?
  # 4: not implemented here; 3: no resources.
  case $status in
    0 | 3 | 4) ;;
    *) failed="$failed $stressor($status)"; grep -E 'fail|error' "$WORK/stress.log" | head -5 ;;
  esac
done
test -z "$failed" || { echo "failed:$failed"; exit 1; }

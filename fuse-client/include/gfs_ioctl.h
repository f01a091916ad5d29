/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ioctl(2) on files and directories of a mounted GFS.
 *
 *     #include "gfs_ioctl.h"
 *
 *     struct gfs_record_append record = { .length = 5 };
 *     memcpy(record.data, "hello", 5);
 *     if (ioctl(fd, GFS_IOC_RECORD_APPEND, &record) == 0)
 *         printf("at offset %llu\n", (unsigned long long)record.offset);
 *
 * Every call returns 0, or -1 with errno. Whatever the call, errno can be
 *     ENOTTY      the file is not on a mounted GFS, or this mount carries no ioctls
 *                 (see `gfs mount -o binding=...`)
 *     EROFS       the mount, or the master for now, is read-only (calls that change something)
 *     EIO         no replica or no master answered in time, or an answer made no sense
 *     ETIMEDOUT   the mount's deadline passed; a change may or may not have happened
 *     EINTR       a signal came first; a change may or may not have happened
 *
 * Numbers are in the host's byte order. Fields named `reserved` must be 0 (EINVAL), so that they can
 * get a meaning later. An ioctl through FUSE carries at most 16,383 bytes (14 bits of size); each
 * structure here stays below that.
 */
#ifndef GFS_IOCTL_H
#define GFS_IOCTL_H

#include <linux/ioctl.h>
#include <linux/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GFS_IOC_MAGIC 'G'

/** Bytes that one GFS_IOC_RECORD_APPEND can carry; longer records: GFS_IOC_APPEND_BEGIN. */
#define GFS_RECORD_APPEND_MAX 16360

struct gfs_record_append {
	/** Out: where the record is. */
	__u64 offset;
	/** In: bytes of `data` to append, 1 to GFS_RECORD_APPEND_MAX. */
	__u32 length;
	__u32 reserved;
	/** In: the record. What follows its `length` bytes is ignored. */
	__u8 data[GFS_RECORD_APPEND_MAX];
};

/** Bytes of a path, its NUL included. */
#define GFS_PATH_MAX 4096

struct gfs_snapshot {
	/** In: a path, ended by NUL. */
	char destination[GFS_PATH_MAX];
};

/** Bytes of JSON text that one GFS_IOC_CHUNK_INFO returns, its NUL included. */
#define GFS_CHUNK_INFO_MAX 16352

struct gfs_chunk_info {
	/** In: the index of the first chunk to describe; 0 is the file's first. */
	__u64 first;
	/** Out: the index to go on from, as the next `first`; 0 when there are no more chunks. */
	__u64 next;
	/** Out: bytes of `text` without its NUL. */
	__u32 length;
	__u32 reserved;
	/** Out: JSON in UTF-8, ended by NUL. */
	char text[GFS_CHUNK_INFO_MAX];
};

/**
 * Record append (GFS paper, section 3.3): appends `data` to the file as one piece, at an offset that
 * GFS chooses and returns. Appends of any number of clients to one file do not overlap or tear each
 * other. Where the record would cross a chunk's end, that chunk is padded first: the file can have
 * padding between records. The descriptor's own offset does not move; it may be open for reading only.
 *     EINVAL      length is 0 or over GFS_RECORD_APPEND_MAX, or the file is not a regular one
 *     E2BIG       length is over a quarter of the cluster's chunk size
 *     EACCES      the caller may not write the file
 *     ENOSPC      no chunkserver has room
 */
#define GFS_IOC_RECORD_APPEND _IOWR(GFS_IOC_MAGIC, 1, struct gfs_record_append)

/**
 * The offset that this file's last record append through this mount got, by whatever descriptor,
 * process or interface.
 *     ENODATA     there was none since the mount, or it is forgotten
 */
#define GFS_IOC_LAST_APPEND _IOR(GFS_IOC_MAGIC, 2, __u64)

/**
 * Snapshot (section 3.4): copies the file or the directory tree that the descriptor refers to, in one
 * step and without copying data. What was acknowledged before is in it, and what the caller has
 * written. `destination` is relative to the directory that the source is in, or absolute as the caller
 * sees it below the mount point.
 *     EXDEV       the destination is not on this mount
 *     EEXIST      the destination is there already
 *     ENOENT      the destination's directory is not there
 *     EINVAL      the destination is inside the source, is empty or has no NUL
 *     EACCES      the caller may not read the source or write the destination's directory
 *     ENAMETOOLONG
 */
#define GFS_IOC_SNAPSHOT _IOW(GFS_IOC_MAGIC, 3, struct gfs_snapshot)

/**
 * Where the file's chunks are: for each chunk from `first` on its handle, version, length and
 * replicas, as many as fit.
 *     EINVAL      it is not a regular file
 */
#define GFS_IOC_CHUNK_INFO _IOWR(GFS_IOC_MAGIC, 4, struct gfs_chunk_info)

/**
 * Makes this mount forget the chunk locations, attributes and data that it has cached of the file; on
 * a directory: of every file of the mount. What was written is not affected.
 */
#define GFS_IOC_DROP_CACHES _IO(GFS_IOC_MAGIC, 5)

/**
 * Records larger than one ioctl: what is written to this descriptor from GFS_IOC_APPEND_BEGIN to
 * GFS_IOC_APPEND_COMMIT becomes one record, appended as by GFS_IOC_RECORD_APPEND. The bytes are taken
 * in the order of the calls to write(2); the offsets do not matter. Until the commit nobody sees them.
 * One descriptor collects one record at a time, for all that share it (dup(2), fork(2)); its last
 * close(2) gives the record up. Open the file with O_APPEND: only such a descriptor bypasses the page
 * cache, so that uncommitted bytes are not mistaken for the file's.
 *     EINVAL      BEGIN: the descriptor has no O_APPEND, or has begun a record already;
 *                 COMMIT, ABORT: it has not begun one; COMMIT: nothing was written
 *     EBADF       the descriptor is not open for writing
 *     E2BIG       (from write(2)) the record would grow over a quarter of the cluster's chunk size;
 *                 it stays as it was before that write
 * A COMMIT that fails keeps the record: commit it again, or abort it.
 */
#define GFS_IOC_APPEND_BEGIN _IO(GFS_IOC_MAGIC, 6)

/** Appends the record and returns its offset. */
#define GFS_IOC_APPEND_COMMIT _IOR(GFS_IOC_MAGIC, 7, __u64)

/** Gives the record up. */
#define GFS_IOC_APPEND_ABORT _IO(GFS_IOC_MAGIC, 8)

#ifdef __cplusplus
}
#endif

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A libfuse 2 stacked module (`-o modules=gfs`) between libfuse and the npm package fuse-native. The
 * package leaves out what a file system needs to be right: ioctl, the caller's identity, names that are
 * not UTF-8, nanoseconds, numbers above 32 bits, the flags of open and create. The module carries them
 * through what the package does pass on:
 *
 *  - each path becomes "UID,GID,PID/path", its bytes above 0x7f written as UTF-8 as if they were
 *    latin1, so JavaScript sees one character per byte;
 *  - other operations become a "call": getxattr of a name that starts with "gfs:", whose buffer is
 *    both argument and result. Numbers in it are doubles. User programs cannot send such names.
 *
 * fuse-client/fuse-native/module-calls.ts is the other end. The module is loaded as an N-API addon, because
 * that needs no library path: its constructor registers it with the libfuse that the package uses. It is
 * loaded for all to see (RTLD_GLOBAL), because it also stands in for fuse_new.
 */
#define FUSE_USE_VERSION 29
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <fuse_lowlevel.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "thread_memory.h"

/* The longest path of GFS (4,096 bytes), each byte written as two, and the caller before it. */
#define WIDE_BYTES (2 * 4096 + 64)
#define CALL_PREFIX "gfs:"
#define IOCTL_TYPE 'G'

struct module {
	struct fuse_fs *next;
	struct thread_memory *memory;
};
struct wide { char text[WIDE_BYTES]; };

/* Taken once per operation: each call of the next layer sets private_data to its own. */
static struct fuse_fs *next_layer(void)
{
	struct module *self = fuse_get_context()->private_data;
	borrow_thread_memory(self->memory);
	return self->next;
}

static int widen_at(char *out, const char *end, const char *bytes)
{
	for (; *bytes; bytes++) {
		unsigned char byte = (unsigned char)*bytes;
		if (out + 3 > end)
			return -ENAMETOOLONG;
		if (byte < 0x80) {
			*out++ = (char)byte;
		} else {
			*out++ = (char)(0xc0 | byte >> 6);
			*out++ = (char)(0x80 | (byte & 0x3f));
		}
	}
	*out = 0;
	return 0;
}

static int widen(struct wide *out, const char *bytes)
{
	return widen_at(out->text, out->text + WIDE_BYTES, bytes);
}

/* Undoes widen; a character that is none of its (above 0xff) becomes '?'. */
static void narrow(char *out, size_t size, const char *text)
{
	char *end = out + size - 1;
	for (; *text && out < end; out++) {
		unsigned char lead = (unsigned char)*text++;
		if (lead < 0x80) {
			*out = (char)lead;
			continue;
		}
		*out = lead == 0xc2 || lead == 0xc3 ? (char)(lead << 6 | (*text & 0x3f)) : '?';
		while ((*text & 0xc0) == 0x80)
			text++;
	}
	*out = 0;
}

/* libfuse gives no path for an open file whose name is gone; its handle is then all that counts. */
static int widen_path(struct wide *out, const char *path)
{
	struct fuse_context *caller = fuse_get_context();
	int n = snprintf(out->text, WIDE_BYTES, "%u,%u,%d", caller->uid, caller->gid, (int)caller->pid);
	return widen_at(out->text + n, out->text + WIDE_BYTES, path && *path == '/' ? path : "/");
}

/* Runs the next layer's operation on the widened path. */
#define NEXT(operation, path, ...) ({ \
	struct fuse_fs *next = next_layer(); \
	struct wide wide_path; \
	int result = widen_path(&wide_path, path); \
	if (!result) \
		result = operation(next, wide_path.text, ##__VA_ARGS__); \
	note_thread_memory(); \
	result; \
})

static int call(const char *path, const char *name, void *data, size_t size)
{
	return NEXT(fuse_fs_getxattr, path, name, data, size);
}

#define HANDLE struct fuse_file_info *info

static int stat_call(const char *path, struct stat *st, HANDLE)
{
	double v[14] = { 0 };
	char name[48];
	snprintf(name, sizeof name, CALL_PREFIX "getattr:%llu", info ? (unsigned long long)info->fh : 0);
	int error = call(path, name, v, sizeof v);
	if (error < 0)
		return error;
	memset(st, 0, sizeof *st);
	st->st_ino = v[0];
	st->st_mode = v[1];
	st->st_nlink = v[2];
	st->st_uid = v[3];
	st->st_gid = v[4];
	st->st_rdev = v[5];
	st->st_size = v[6];
	st->st_blocks = v[7];
	st->st_atim = (struct timespec){ v[8], v[9] };
	st->st_mtim = (struct timespec){ v[10], v[11] };
	st->st_ctim = (struct timespec){ v[12], v[13] };
	return 0;
}

static int gfs_getattr(const char *p, struct stat *st) { return stat_call(p, st, NULL); }
static int gfs_fgetattr(const char *p, struct stat *st, HANDLE) { return stat_call(p, st, info); }

static int gfs_statfs(const char *p, struct statvfs *out)
{
	double v[7] = { 0 };
	int error = call(p, CALL_PREFIX "statfs", v, sizeof v);
	if (error < 0)
		return error;
	*out = (struct statvfs){ .f_bsize = v[0], .f_frsize = v[0], .f_blocks = v[1], .f_bfree = v[2],
		.f_bavail = v[3], .f_files = v[4], .f_ffree = v[5], .f_favail = v[5], .f_namemax = v[6] };
	return 0;
}

static int gfs_utimens(const char *p, const struct timespec t[2])
{
	double v[4] = { t[0].tv_sec, t[0].tv_nsec, t[1].tv_sec, t[1].tv_nsec };
	return call(p, CALL_PREFIX "utimens", v, sizeof v);
}

static int open_call(const char *path, const char *name, mode_t mode, HANDLE)
{
	double v[4] = { info->flags, mode };
	int error = call(path, name, v, sizeof v);
	if (error < 0)
		return error;
	info->fh = v[0];
	info->direct_io = v[1] != 0;
	info->keep_cache = v[2] != 0;
	return 0;
}

static int gfs_open(const char *p, HANDLE) { return open_call(p, CALL_PREFIX "open", 0, info); }
static int gfs_create(const char *p, mode_t mode, HANDLE) { return open_call(p, CALL_PREFIX "create", mode, info); }

static int gfs_ioctl(const char *p, int signed_command, void *arg, HANDLE, unsigned flags, void *data)
{
	unsigned command = (unsigned)signed_command;
	char name[64];
	(void)arg;
	if (_IOC_TYPE(command) != IOCTL_TYPE)
		return -ENOTTY;
	snprintf(name, sizeof name, CALL_PREFIX "ioctl:%u:%llu:%d", command,
		(unsigned long long)info->fh, (flags & FUSE_IOCTL_DIR) != 0);
	return call(p, name, data, _IOC_SIZE(command));
}

static int gfs_readlink(const char *p, char *out, size_t size)
{
	char target[4096 + 1] = { 0 };
	int error = call(p, CALL_PREFIX "readlink", target, sizeof target - 1);
	if (error < 0)
		return error;
	snprintf(out, size, "%s", target);
	return 0;
}

struct listing { void *out; fuse_fill_dir_t fill; };

static int fill_narrow(void *data, const char *name, const struct stat *st, off_t offset)
{
	struct listing *listing = data;
	char bytes[1024];
	narrow(bytes, sizeof bytes, name);
	return listing->fill(listing->out, bytes, st, offset);
}

static int gfs_readdir(const char *p, void *out, fuse_fill_dir_t fill, off_t offset, HANDLE)
{
	struct listing listing = { out, fill };
	return NEXT(fuse_fs_readdir, p, &listing, fill_narrow, offset, info);
}

static bool is_call(const char *name)
{
	return strncmp(name, CALL_PREFIX, strlen(CALL_PREFIX)) == 0;
}

/* Runs an operation with a second text (a path, a target, the name of an attribute), widened too. */
#define NEXT_WITH(second, operation, path, ...) ({ \
	struct wide wide_second; \
	int too_long = widen(&wide_second, second); \
	too_long ? too_long : NEXT(operation, path, wide_second.text, ##__VA_ARGS__); \
})

static int gfs_setxattr(const char *p, const char *name, const char *value, size_t size, int flags)
{
	return is_call(name) ? -EOPNOTSUPP : NEXT_WITH(name, fuse_fs_setxattr, p, value, size, flags);
}

static int gfs_getxattr(const char *p, const char *name, char *value, size_t size)
{
	return is_call(name) ? -EOPNOTSUPP : NEXT_WITH(name, fuse_fs_getxattr, p, value, size);
}

static int gfs_removexattr(const char *p, const char *name)
{
	return is_call(name) ? -EOPNOTSUPP : NEXT_WITH(name, fuse_fs_removexattr, p);
}

static int symlink_at(struct fuse_fs *fs, const char *p, const char *target)
{
	return fuse_fs_symlink(fs, target, p);
}

static int gfs_symlink(const char *target, const char *p) { return NEXT_WITH(target, symlink_at, p); }
static int gfs_rename(const char *p, const char *to) { return NEXT_WITH(to, fuse_fs_rename, p); }
static int gfs_link(const char *p, const char *to) { return NEXT_WITH(to, fuse_fs_link, p); }
static int gfs_listxattr(const char *p, char *list, size_t n) { return NEXT(fuse_fs_listxattr, p, list, n); }
static int gfs_mknod(const char *p, mode_t mode, dev_t dev) { return NEXT(fuse_fs_mknod, p, mode, dev); }
static int gfs_mkdir(const char *p, mode_t mode) { return NEXT(fuse_fs_mkdir, p, mode); }
static int gfs_unlink(const char *p) { return NEXT(fuse_fs_unlink, p); }
static int gfs_rmdir(const char *p) { return NEXT(fuse_fs_rmdir, p); }
static int gfs_chmod(const char *p, mode_t mode) { return NEXT(fuse_fs_chmod, p, mode); }
static int gfs_chown(const char *p, uid_t uid, gid_t gid) { return NEXT(fuse_fs_chown, p, uid, gid); }
static int gfs_truncate(const char *p, off_t size) { return NEXT(fuse_fs_truncate, p, size); }
static int gfs_ftruncate(const char *p, off_t size, HANDLE) { return NEXT(fuse_fs_ftruncate, p, size, info); }
static int gfs_read(const char *p, char *b, size_t n, off_t o, HANDLE) { return NEXT(fuse_fs_read, p, b, n, o, info); }
static int gfs_write(const char *p, const char *b, size_t n, off_t o, HANDLE) { return NEXT(fuse_fs_write, p, b, n, o, info); }
static int gfs_flush(const char *p, HANDLE) { return NEXT(fuse_fs_flush, p, info); }
static int gfs_release(const char *p, HANDLE) { return NEXT(fuse_fs_release, p, info); }
static int gfs_fsync(const char *p, int data_only, HANDLE) { return NEXT(fuse_fs_fsync, p, data_only, info); }
static int gfs_fsyncdir(const char *p, int data_only, HANDLE) { return NEXT(fuse_fs_fsyncdir, p, data_only, info); }

static void *gfs_init(struct fuse_conn_info *connection)
{
	struct fuse_context *context = fuse_get_context();
	struct module *self = context->private_data;
	struct fuse_chan *channel = fuse_session_next_chan(fuse_get_session(context->fuse), NULL);
	/* A child process that kept it open would keep a dead mount hanging. */
	fcntl(fuse_chan_fd(channel), F_SETFD, FD_CLOEXEC);
	connection->want |= connection->capable & (FUSE_CAP_BIG_WRITES | FUSE_CAP_IOCTL_DIR);
	borrow_thread_memory(self->memory);
	/* The package's first operation on this thread. */
	struct thread_keys before = set_thread_keys();
	fuse_fs_init(self->next, connection);
	find_package_key(&before);
	note_thread_memory();
	return self;
}

static void gfs_destroy(void *data)
{
	struct module *self = data;
	fuse_fs_destroy(self->next);
	free(self);
}

static const struct fuse_operations operations = {
	.init = gfs_init, .destroy = gfs_destroy, .getattr = gfs_getattr, .fgetattr = gfs_fgetattr,
	.statfs = gfs_statfs, .utimens = gfs_utimens, .open = gfs_open, .create = gfs_create,
	.ioctl = gfs_ioctl, .readlink = gfs_readlink, .readdir = gfs_readdir, .setxattr = gfs_setxattr,
	.getxattr = gfs_getxattr, .removexattr = gfs_removexattr, .listxattr = gfs_listxattr,
	.symlink = gfs_symlink, .rename = gfs_rename, .link = gfs_link, .mknod = gfs_mknod,
	.mkdir = gfs_mkdir, .unlink = gfs_unlink, .rmdir = gfs_rmdir, .chmod = gfs_chmod,
	.chown = gfs_chown, .truncate = gfs_truncate, .ftruncate = gfs_ftruncate, .read = gfs_read,
	.write = gfs_write, .flush = gfs_flush, .release = gfs_release, .fsync = gfs_fsync,
	.fsyncdir = gfs_fsyncdir, .flag_utime_omit_ok = 1,
};

static struct fuse_fs *new_layer(struct fuse_args *args, struct fuse_fs *next[])
{
	struct module *self;
	(void)args;
	if (!next[0] || next[1] || !(self = calloc(1, sizeof *self)))
		return NULL;
	self->next = next[0];
	self->memory = new_thread_memory();
	return fuse_fs_new(&operations, sizeof operations, self);
}

FUSE_REGISTER_MODULE(gfs, new_layer);

#define EXPORTED __attribute__((visibility("default")))
#define MODULE_OPTION "modules=gfs"

typedef struct fuse *new_function(struct fuse_chan *, struct fuse_args *, const struct fuse_operations *, size_t, void *);

/*
 * The package's call of fuse_new comes here first. Of a change of one time alone (touch -m, tar) libfuse
 * says nothing unless the operations of every layer have flag_utime_omit_ok; the package's have not.
 */
EXPORTED struct fuse *fuse_new(struct fuse_chan *channel, struct fuse_args *args,
	const struct fuse_operations *package_operations, size_t size, void *data)
{
	new_function *next = (new_function *)dlvsym(RTLD_NEXT, "fuse_new", "FUSE_2.6");
	struct fuse_operations flagged = { 0 };
	bool has_module = false;
	if (!next)
		return NULL;
	for (int i = 0; i < args->argc; i++)
		has_module |= strstr(args->argv[i], MODULE_OPTION) != NULL;
	memcpy(&flagged, package_operations, size < sizeof flagged ? size : sizeof flagged);
	flagged.flag_utime_omit_ok = has_module;
	return next(channel, args, &flagged, sizeof flagged, data);
}

/* Makes it an N-API addon, with nothing in it: loading it is all that is wanted. */
EXPORTED void *napi_register_module_v1(void *env, void *exports)
{
	(void)env;
	return exports;
}

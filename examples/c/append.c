/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Appends its standard input to a file on a mounted GFS as one record, and prints the offset that GFS
 * chose. Build and run:
 *
 *     gcc -O2 -Wall -I ../../fuse-client/include -o append append.c
 *     echo "one line of a log" | ./append /mnt/gfs/log
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "gfs_ioctl.h"

static int fail(const char *what)
{
	fprintf(stderr, "append: %s: %s\n", what, strerror(errno));
	return 1;
}

/* Fills `data` from standard input; the bytes read, or -1. */
static ssize_t fill(char *data, size_t size)
{
	size_t length = 0;

	while (length < size) {
		ssize_t n = read(STDIN_FILENO, data + length, size - length);
		if (n < 0)
			return -1;
		if (n == 0)
			break;
		length += n;
	}
	return length;
}

/* The record is too long for one ioctl: collect it on the descriptor, then append it whole. */
static int append_long(int fd, char *data, ssize_t length, __u64 *offset)
{
	if (ioctl(fd, GFS_IOC_APPEND_BEGIN) < 0)
		return fail("begin");
	while (length > 0) {
		for (ssize_t done = 0; done < length;) {
			ssize_t n = write(fd, data + done, length - done);
			if (n < 0) {
				int status = fail("write");
				ioctl(fd, GFS_IOC_APPEND_ABORT);
				return status;
			}
			done += n;
		}
		length = fill(data, GFS_RECORD_APPEND_MAX);
	}
	if (length < 0 || ioctl(fd, GFS_IOC_APPEND_COMMIT, offset) < 0) {
		int status = fail(length < 0 ? "standard input" : "commit");
		ioctl(fd, GFS_IOC_APPEND_ABORT);
		return status;
	}
	return 0;
}

int main(int argc, char **argv)
{
	static struct gfs_record_append record;
	__u64 offset = 0;

	if (argc != 2) {
		fprintf(stderr, "usage: append FILE < RECORD\n");
		return 2;
	}
	int fd = open(argv[1], O_WRONLY | O_CREAT | O_APPEND, 0644);
	if (fd < 0)
		return fail(argv[1]);

	ssize_t length = fill((char *)record.data, GFS_RECORD_APPEND_MAX);
	if (length < 0)
		return fail("standard input");
	if (length == GFS_RECORD_APPEND_MAX) {
		int status = append_long(fd, (char *)record.data, length, &offset);
		if (status != 0)
			return status;
	} else {
		record.length = length;
		if (ioctl(fd, GFS_IOC_RECORD_APPEND, &record) < 0)
			return fail(argv[1]);
		offset = record.offset;
	}
	printf("%llu\n", (unsigned long long)offset);
	return close(fd) < 0 ? fail(argv[1]) : 0;
}

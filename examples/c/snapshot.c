/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes a snapshot of a file or a directory tree on a mounted GFS. Build and run:
 *
 *     gcc -O2 -Wall -I ../../fuse-client/include -o snapshot snapshot.c
 *     ./snapshot /mnt/gfs/project project.yesterday
 *
 * The destination is relative to the source's directory, or absolute below the mount point.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "gfs_ioctl.h"

int main(int argc, char **argv)
{
	static struct gfs_snapshot snapshot;

	if (argc != 3) {
		fprintf(stderr, "usage: snapshot SOURCE DESTINATION\n");
		return 2;
	}
	if (strlen(argv[2]) >= sizeof snapshot.destination) {
		fprintf(stderr, "snapshot: %s\n", strerror(ENAMETOOLONG));
		return 1;
	}
	strcpy(snapshot.destination, argv[2]);

	int fd = open(argv[1], O_RDONLY);
	if (fd < 0 || ioctl(fd, GFS_IOC_SNAPSHOT, &snapshot) < 0) {
		fprintf(stderr, "snapshot: %s: %s\n", argv[1], strerror(errno));
		return 1;
	}
	return 0;
}

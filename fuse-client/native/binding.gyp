{
  "targets": [
    {
      "target_name": "fusedev",
      "sources": ["addon.c", "device.c", "mount.c", "notifier.c", "syscalls.c", "work.c"],
      "defines": ["NAPI_VERSION=8", "_GNU_SOURCE", "_FILE_OFFSET_BITS=64"],
      # The notifier's thread may outlive the worker that loaded this.
      "ldflags": ["-Wl,-z,nodelete"],
      "cflags": ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wno-unused-parameter"]
    }
  ]
}

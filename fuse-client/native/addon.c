/*
 * fusedev: what the kernel binding needs and Node does not have. Everything that knows the FUSE
 * protocol is TypeScript; this moves bytes between /dev/fuse and memory that JavaScript owns, and
 * makes the system calls around it.
 */
#include <node_api.h>

#include "device.h"
#include "mount.h"
#include "syscalls.h"
#include "work.h"

NAPI_MODULE_INIT() {
  const napi_property_descriptor functions[] = {
      {"mount", NULL, js_mount, NULL, NULL, NULL, napi_enumerable, NULL},
      {"mountByHelper", NULL, js_mount_by_helper, NULL, NULL, NULL, napi_enumerable, NULL},
      {"unmount", NULL, js_unmount, NULL, NULL, NULL, napi_enumerable, NULL},
      {"close", NULL, js_close, NULL, NULL, NULL, napi_enumerable, NULL},
      {"serve", NULL, js_serve, NULL, NULL, NULL, napi_enumerable, NULL},
      {"ioctl", NULL, js_ioctl, NULL, NULL, NULL, napi_enumerable, NULL},
      {"getxattr", NULL, js_getxattr, NULL, NULL, NULL, napi_enumerable, NULL},
      {"setxattr", NULL, js_setxattr, NULL, NULL, NULL, napi_enumerable, NULL},
  };
  MUST(napi_define_properties(env, exports, sizeof functions / sizeof functions[0], functions));
  return exports;
}

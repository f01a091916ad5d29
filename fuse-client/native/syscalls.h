#ifndef GFS_SYSCALLS_H
#define GFS_SYSCALLS_H

#include <node_api.h>

napi_value js_ioctl(napi_env env, napi_callback_info info);
napi_value js_getxattr(napi_env env, napi_callback_info info);
napi_value js_setxattr(napi_env env, napi_callback_info info);

#endif

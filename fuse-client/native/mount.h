#ifndef GFS_MOUNT_H
#define GFS_MOUNT_H

#include <node_api.h>

napi_value js_mount(napi_env env, napi_callback_info info);
napi_value js_mount_by_helper(napi_env env, napi_callback_info info);
napi_value js_unmount(napi_env env, napi_callback_info info);
napi_value js_close(napi_env env, napi_callback_info info);

#endif

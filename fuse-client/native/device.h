#ifndef GFS_DEVICE_H
#define GFS_DEVICE_H

#include <node_api.h>

napi_value js_serve(napi_env env, napi_callback_info info);

#endif

/* NVML as a library to load: fewest calls, one GPU, and a driver that is a file.
 *
 * FAKE_DRIVER holds the version of the kernel's module, or a word for what each call
 * then fails with; FAKE_DEVICE, where it is set, must be readable and writable, as
 * /dev/nvidia0 must. cc -shared -fPIC -DVERSION='"550.1"'
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, NO_PERMISSION = 4, NOT_LOADED = 9, MISMATCH = 18, UNKNOWN = 999 };

static int device(void) {
    const char *path = getenv("FAKE_DEVICE");
    int opened = path ? open(path, O_RDWR) : -1;
    if (opened >= 0) close(opened);
    return path && opened < 0 ? NO_PERMISSION : SUCCESS;
}

static int driver(void) {
    char version[64] = "";
    FILE *file = fopen(getenv("FAKE_DRIVER"), "r");
    if (!file) return NOT_LOADED;
    if (!fgets(version, sizeof version, file)) version[0] = 0;
    fclose(file);
    version[strcspn(version, "\n")] = 0;
    if (!strcmp(version, "unknown")) return UNKNOWN;
    if (!strcmp(version, "forbidden")) return NO_PERMISSION;
    return strcmp(version, VERSION) ? MISMATCH : device();
}

static int say(char *out, unsigned size, const char *text) {
    snprintf(out, size, "%s", text);
    return driver();
}

int nvmlInitWithFlags(unsigned flags) { return driver(); }
int nvmlShutdown(void) { return SUCCESS; }
int nvmlSystemGetDriverVersion(char *out, unsigned size) { return say(out, size, VERSION); }
int nvmlDeviceGetCount_v2(unsigned *out) { *out = 1; return driver(); }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **out) { *out = (void *)1; return driver(); }
int nvmlDeviceGetUUID(void *gpu, char *out, unsigned size) {
    return say(out, size, "GPU-00000000-0000-0000-0000-000000000001");
}
int nvmlDeviceGetName(void *gpu, char *out, unsigned size) { return say(out, size, "Fake"); }
int nvmlDeviceGetPciInfo_v3(void *gpu, void *out) { memset(out, 0, 68); return driver(); }
int nvmlDeviceGetTemperature(void *gpu, int sensor, unsigned *out) { *out = 50; return driver(); }
int nvmlDeviceGetPowerUsage(void *gpu, unsigned *out) { *out = 50000; return driver(); }

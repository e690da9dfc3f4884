/* NVIDIA's management library, as far as attestation needs it: the real names, structures and
 * return codes (nvml.h), so that the real Python binding loads it. What a driver would answer comes
 * from a process that the tests run, by a unix socket; without one there is no driver.
 *
 * A question is a line; an answer is a return code, a length (both u32, little-endian) and bytes.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define SUCCESS 0
#define INSUFFICIENT_SIZE 7
#define DRIVER_NOT_LOADED 9
#define UNINITIALIZED 1

typedef struct {
    unsigned int environment, ccFeature, devToolsMode;
} State;
typedef struct {
    unsigned int version, environment, ccFeature, devToolsMode, multiGpuMode;
} Settings;
typedef struct {
    unsigned int certChainSize, attestationCertChainSize;
    uint8_t certChain[0x1000], attestationCertChain[0x1400];
} Certificate;
typedef struct {
    unsigned int isCecAttestationReportPresent, attestationReportSize, cecAttestationReportSize;
    uint8_t nonce[0x20], attestationReport[0x2000], cecAttestationReport[0x1000];
} Report;

static int sessions = 0;

static int read_all(int from, void *target, size_t size) {
    size_t done = 0;
    while (done < size) {
        ssize_t part = read(from, (char *)target + done, size - done);
        if (part <= 0) return 0;
        done += (size_t)part;
    }
    return 1;
}

static int ask(const char *question, void *target, unsigned int most, unsigned int *size) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval limit = {.tv_sec = 10};
    const char *path = getenv("TEEVERIFY_TEST_NVML");
    uint32_t head[2] = {DRIVER_NOT_LOADED, 0};
    int driver = socket(AF_UNIX, SOCK_STREAM, 0);
    if (driver < 0) return DRIVER_NOT_LOADED;
    setsockopt(driver, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (path != NULL) strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    if (path == NULL || connect(driver, (struct sockaddr *)&address, sizeof address) != 0 ||
        write(driver, question, strlen(question)) < 0 || !read_all(driver, head, sizeof head)) {
        close(driver);
        return DRIVER_NOT_LOADED;
    }
    if (head[0] == SUCCESS && head[1] > most) head[0] = INSUFFICIENT_SIZE;
    if (head[0] == SUCCESS && !read_all(driver, target, head[1])) head[0] = DRIVER_NOT_LOADED;
    if (size != NULL) *size = head[1];
    close(driver);
    return (int)head[0];
}

static int asked(const char *question, void *target, unsigned int most, unsigned int *size) {
    return sessions > 0 ? ask(question, target, most, size) : UNINITIALIZED;
}

int nvmlInitWithFlags(unsigned int flags) {
    (void)flags;
    int code = ask("init\n", NULL, 0, NULL);
    if (code == SUCCESS) sessions++;
    return code;
}

int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

int nvmlShutdown(void) {
    if (sessions == 0) return UNINITIALIZED;
    sessions--;
    return SUCCESS;
}

const char *nvmlErrorString(int code) {
    static char text[40];
    snprintf(text, sizeof text, "error %d", code);
    return text;
}

int nvmlSystemGetDriverVersion(char *version, unsigned int length) {
    unsigned int size = 0;
    memset(version, 0, length);
    return asked("version\n", version, length - 1, &size);
}

int nvmlSystemGetConfComputeState(State *state) {
    return asked("state\n", state, sizeof *state, NULL);
}

int nvmlSystemGetConfComputeSettings(Settings *settings) {
    if (settings->version != (sizeof *settings | 1u << 24)) return 25;
    return asked("settings\n", &settings->environment, sizeof *settings - 4, NULL);
}

int nvmlDeviceGetCount_v2(unsigned int *count) {
    return asked("count\n", count, sizeof *count, NULL);
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device) {
    char question[40];
    snprintf(question, sizeof question, "handle %u\n", index);
    int code = asked(question, NULL, 0, NULL);
    if (code == SUCCESS) *device = (void *)(uintptr_t)(index + 1);
    return code;
}

static unsigned int index_of(void *device) { return (unsigned int)(uintptr_t)device - 1; }

int nvmlDeviceGetArchitecture(void *device, unsigned int *architecture) {
    char question[40];
    snprintf(question, sizeof question, "architecture %u\n", index_of(device));
    return asked(question, architecture, sizeof *architecture, NULL);
}

int nvmlDeviceGetConfComputeGpuCertificate(void *device, Certificate *certificate) {
    char question[40];
    snprintf(question, sizeof question, "certificate %u\n", index_of(device));
    return asked(question, certificate->attestationCertChain,
                 sizeof certificate->attestationCertChain,
                 &certificate->attestationCertChainSize);
}

int nvmlDeviceGetConfComputeGpuAttestationReport(void *device, Report *report) {
    char question[120];
    int at = snprintf(question, sizeof question, "report %u ", index_of(device));
    for (unsigned int i = 0; i < sizeof report->nonce; i++)
        at += snprintf(question + at, sizeof question - (size_t)at, "%02x", report->nonce[i]);
    snprintf(question + at, sizeof question - (size_t)at, "\n");
    return asked(question, report->attestationReport, sizeof report->attestationReport,
                 &report->attestationReportSize);
}

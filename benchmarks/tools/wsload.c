// SPDX-License-Identifier: Apache-2.0
//
// wsload: opens WebSockets as fast as a server takes them, and says how many opening handshakes per second that is.
//
// One thread and epoll, so that the server under test is the bottleneck and not the generator. One cycle is: TCP connect,
// opening handshake (RFC 6455), one text message, its echo, closing handshake. Connections come from 40 loopback addresses,
// so that neither the local ports nor a limit per address end the measurement.
//
//   gcc -O2 -o wsload wsload.c
//   wsload -p PORT [-h HOST] [-u PATH] [-c CONCURRENCY] [-d SECONDS] [-w WARM_UP_SECONDS] [-n TOTAL] [-T TIMEOUT_SECONDS]
//          [-H "Name: value"]... [-F FILE]     FILE: one header line per line of it; each handshake takes the next one
//          [-i COUNT -s SECONDS]               open COUNT connections, echo once on each, hold them for so long
//
// The result is one line of JSON on stdout. With -i there is a line when all are open, and one when the time is over.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

enum {
    BUFFER_BYTES = 8192,    // an answer or a frame that does not fit is a failure
    REQUEST_BYTES = 32768,
    EVENTS_AT_ONCE = 256,
    SOURCE_ADDRESSES = 40,  // 127.0.0.2 and up
    TICK_MS = 50,
    SWITCHING_PROTOCOLS = 101,
    HIGHEST_STATUS = 599,
};

enum opcode { TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10 };

static const char MESSAGE[] = "hello-echo-12345";
static const size_t MESSAGE_BYTES = sizeof MESSAGE - 1;

// What the command line says.

static struct {
    const char *host, *path;
    int port, concurrency;
    double seconds, warm_up, timeout, hold;
    long total, idle;
    char headers[REQUEST_BYTES / 2];
    char **rotating;
    long rotating_count;
} options = {.host = "127.0.0.1", .path = "/ws", .port = 8000, .concurrency = 64, .seconds = 8, .warm_up = 2, .timeout = 60, .hold = 10};

// Connections. A connection that is FREE waits for its next cycle on the stack `unused`.

enum state { FREE, CONNECTING, OPENING, ECHOING, CLOSING, IDLE };

struct connection {
    int fd;
    enum state state;
    double began;
    size_t length;
    char buffer[BUFFER_BYTES + 1];
};

static struct connection *connections, **unused;
static long slots, unused_count;
static long started, finished, holding;
static int epoll_fd;
static struct sockaddr_in server;

// What is counted. Only what ends inside the measured time is.

enum failure { CONNECT_FAILED, RESET, TIMED_OUT, ENDED_EARLY, NOT_ECHOED, FAILURES };

static const char *const FAILURE_NAMES[FAILURES] = {"connect", "reset", "timeout", "ended_early", "not_echoed"};

static double measured_from, ends_at;
static long statuses[HIGHEST_STATUS + 1], failures[FAILURES], cycles, all_handshakes, headers_used;
static double *latencies;
static size_t latency_count, latency_capacity;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}

static double cpu_seconds(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static bool is_measured(double time) { return time >= measured_from && (options.total || options.idle || time < ends_at); }

static void add_latency(double seconds) {
    if (latency_count == latency_capacity) {
        latency_capacity = latency_capacity ? latency_capacity * 2 : 65536;
        latencies = realloc(latencies, latency_capacity * sizeof *latencies);
        if (!latencies) die("realloc");
    }
    latencies[latency_count++] = seconds;
}

// The life of one connection

static void finish(struct connection *connection) {
    close(connection->fd);
    connection->fd = -1;
    connection->state = FREE;
    finished++;
    if (!options.idle) unused[unused_count++] = connection;
}

static void fail(struct connection *connection, enum failure why) {
    if (is_measured(now())) failures[why]++;
    finish(connection);
}

static bool send_request(struct connection *connection) {
    char request[REQUEST_BYTES];
    const char *rotated = "", *line_end = "";
    if (options.rotating_count) {
        rotated = options.rotating[headers_used % options.rotating_count];
        line_end = "\r\n";
    }
    headers_used++;
    int length = snprintf(request, sizeof request,
                          "GET %s HTTP/1.1\r\nHost: %s:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                          "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s%s%s\r\n",
                          options.path, options.host, options.port, options.headers, rotated, line_end);
    return length < (int)sizeof request && send(connection->fd, request, length, MSG_NOSIGNAL) == length;
}

static void begin(struct connection *connection) {
    static unsigned source;
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (fd < 0) die("socket");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + source++ % SOURCE_ADDRESSES)};
    if (bind(fd, (struct sockaddr *)&from, sizeof from)) die("bind");
    connection->fd = fd;
    connection->length = 0;
    connection->state = CONNECTING;
    connection->began = now();
    started++;
    if (connect(fd, (struct sockaddr *)&server, sizeof server) && errno != EINPROGRESS) {
        fail(connection, CONNECT_FAILED);
        return;
    }
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = connection};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

static void connected(struct connection *connection) {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) {
        fail(connection, CONNECT_FAILED);
        return;
    }
    if (!send_request(connection)) {
        fail(connection, RESET);
        return;
    }
    connection->state = OPENING;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, connection->fd, &event);
}

// A masked frame with at most 125 bytes. The mask is all zero: allowed, and free of charge.
static void send_frame(struct connection *connection, enum opcode opcode, const char *payload, size_t length) {
    char frame[6 + 125] = {(char)(0x80 | opcode), (char)(0x80 | length)};
    memcpy(frame + 6, payload, length);
    // A short count or an error shows itself when we read.
    ssize_t ignored = send(connection->fd, frame, 6 + length, MSG_NOSIGNAL);
    (void)ignored;
}

static void drop_front(struct connection *connection, size_t length) {
    connection->length -= length;
    memmove(connection->buffer, connection->buffer + length, connection->length);
    connection->buffer[connection->length] = 0;
}

// The answer to the upgrade, once it is there. Says whether to go on with what follows it.
static bool read_answer(struct connection *connection) {
    char *end = strstr(connection->buffer, "\r\n\r\n");
    if (!end) return false;
    int status = connection->length > 12 ? atoi(connection->buffer + 9) : 0;
    double time = now();
    if (is_measured(time)) {
        statuses[status > 0 && status <= HIGHEST_STATUS ? status : 0]++;
        add_latency(time - connection->began);
    }
    if (status != SWITCHING_PROTOCOLS) {
        finish(connection);
        return false;
    }
    all_handshakes++;
    drop_front(connection, end + 4 - connection->buffer);
    send_frame(connection, TEXT, MESSAGE, MESSAGE_BYTES);
    connection->state = ECHOING;
    return true;
}

static void on_frame(struct connection *connection, enum opcode opcode, const char *payload, size_t length) {
    bool is_echo = opcode == TEXT && length == MESSAGE_BYTES && !memcmp(payload, MESSAGE, length);
    if (opcode == PING) {
        send_frame(connection, PONG, payload, length < 125 ? length : 125);
    } else if (connection->state == ECHOING && is_echo && options.idle) {
        connection->state = IDLE;
        holding++;
    } else if (connection->state == ECHOING && is_echo) {
        send_frame(connection, CLOSE, "\x03\xe8", 2);
        connection->state = CLOSING;
    } else if (opcode == CLOSE && connection->state == ECHOING) {
        fail(connection, NOT_ECHOED);
    } else if (opcode == CLOSE && connection->state == IDLE) {
        holding--;
        fail(connection, ENDED_EARLY);
    }
    // Anything else is a message of the server's own, or the answer to our close: TCP is closed by the server.
}

// The next whole frame (RFC 6455, section 5.2; a server's frames are not masked). Says whether there was one.
static bool read_frame(struct connection *connection) {
    const unsigned char *bytes = (const unsigned char *)connection->buffer;
    if (connection->length < 2) return false;
    size_t head = 2, length = bytes[1] & 127;
    if (length == 126) {
        if (connection->length < 4) return false;
        head = 4;
        length = (size_t)bytes[2] << 8 | bytes[3];
    } else if (length == 127) {
        length = BUFFER_BYTES;
    }
    if (head + length > BUFFER_BYTES) {
        fail(connection, NOT_ECHOED);
        return false;
    }
    if (connection->length < head + length) return false;
    on_frame(connection, bytes[0] & 15, connection->buffer + head, length);
    if (connection->state == FREE) return false;
    drop_front(connection, head + length);
    return true;
}

static void ended(struct connection *connection) {
    if (connection->state == CLOSING) {
        if (is_measured(now())) cycles++;
        finish(connection);
        return;
    }
    if (connection->state == IDLE) holding--;
    fail(connection, ENDED_EARLY);
}

static void readable(struct connection *connection) {
    while (connection->state != FREE) {
        size_t room = BUFFER_BYTES - connection->length;
        ssize_t count = recv(connection->fd, connection->buffer + connection->length, room, 0);
        if (count < 0 && errno == EAGAIN) return;
        if (count == 0 || (count < 0 && connection->state == CLOSING)) {
            ended(connection);
        } else if (count < 0) {
            if (connection->state == IDLE) holding--;
            fail(connection, RESET);
        } else {
            connection->length += count;
            connection->buffer[connection->length] = 0;
            bool more = connection->state != OPENING || read_answer(connection);
            while (more && connection->state != FREE) more = read_frame(connection);
            if (connection->state == OPENING && connection->length == BUFFER_BYTES) fail(connection, ENDED_EARLY);
        }
    }
}

static void give_up_on_slow_ones(double time) {
    for (long i = 0; i < slots; i++) {
        struct connection *connection = &connections[i];
        if (connection->state != FREE && connection->state != IDLE && time - connection->began > options.timeout)
            fail(connection, TIMED_OUT);
    }
}

// The run

static bool may_start(void) {
    if (unused_count == 0) return false;
    if (options.idle) return started - finished - holding < options.concurrency;
    return options.total ? started < options.total : now() < ends_at;
}

static bool is_over(double time) {
    if (options.idle) return time >= ends_at;
    return options.total ? finished >= options.total : time >= ends_at;
}

static int ascending(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static double quantile_ms(double q) {
    return latency_count ? latencies[(size_t)(q * (latency_count - 1) + 0.5)] * 1000 : -1;
}

static void report(double seconds, double cpu) {
    long answers = statuses[SWITCHING_PROTOCOLS];
    if (latency_count) qsort(latencies, latency_count, sizeof *latencies, ascending);
    printf("{\"handshakes\": %ld, \"cycles\": %ld, \"seconds\": %.3f, \"per_second\": %.1f, \"all_handshakes\": %ld, ", answers,
           cycles, seconds, answers / seconds, all_handshakes);
    printf("\"p50_ms\": %.3f, \"p99_ms\": %.3f, \"max_ms\": %.3f, ", quantile_ms(0.5), quantile_ms(0.99), quantile_ms(1));
    printf("\"generator_cpu\": %.3f, \"headers_used\": %ld, \"statuses\": {", cpu / seconds, headers_used);
    const char *comma = "";
    for (int status = 0; status <= HIGHEST_STATUS; status++)
        if (statuses[status]) {
            printf("%s\"%d\": %ld", comma, status, statuses[status]);
            comma = ", ";
        }
    printf("}, \"failures\": {");
    for (int why = 0; why < FAILURES; why++) printf("%s\"%s\": %ld", why ? ", " : "", FAILURE_NAMES[why], failures[why]);
    printf("}}\n");
}

static void run(void) {
    struct epoll_event events[EVENTS_AT_ONCE];
    double began = now(), cpu_began = cpu_seconds(), scanned = began;
    bool warm = options.total || options.idle || options.warm_up == 0, told = false;
    measured_from = warm ? began : began + options.warm_up;
    ends_at = options.idle ? began + 1e9 : measured_from + options.seconds;
    while (!is_over(now())) {
        while (may_start()) begin(unused[--unused_count]);
        int count = epoll_wait(epoll_fd, events, EVENTS_AT_ONCE, TICK_MS);
        double time = now();
        if (!warm && time >= measured_from) {
            warm = true;
            cpu_began = cpu_seconds();
        }
        for (int i = 0; i < count; i++) {
            struct connection *connection = events[i].data.ptr;
            if (connection->state == CONNECTING) connected(connection);
            if (events[i].events & ~EPOLLOUT) readable(connection);
        }
        if (time - scanned > TICK_MS / 1000.0) {
            scanned = time;
            give_up_on_slow_ones(time);
        }
        if (options.idle && !told && holding + finished >= options.idle) {
            told = true;
            ends_at = time + options.hold;
            printf("{\"holding\": %ld, \"seconds\": %.3f}\n", holding, time - began);
            fflush(stdout);
        }
    }
    if (options.idle)
        printf("{\"holding\": %ld, \"lost\": %ld}\n", holding, finished);
    else
        report(now() - measured_from, cpu_seconds() - cpu_began);
}

static void read_rotating(const char *name) {
    FILE *file = fopen(name, "r");
    if (!file) die(name);
    char *line = NULL;
    size_t size = 0;
    long capacity = 0;
    for (ssize_t length; (length = getline(&line, &size, file)) > 0;) {
        line[strcspn(line, "\r\n")] = 0;
        if (options.rotating_count == capacity) {
            capacity = capacity ? capacity * 2 : 1024;
            options.rotating = realloc(options.rotating, capacity * sizeof *options.rotating);
        }
        if (!options.rotating || !(options.rotating[options.rotating_count++] = strdup(line))) die("out of memory");
    }
    free(line);
    fclose(file);
}

static void add_header(const char *line) {
    size_t used = strlen(options.headers);
    if (used + strlen(line) + 3 > sizeof options.headers) {
        fprintf(stderr, "wsload: the headers are too long\n");
        exit(2);
    }
    sprintf(options.headers + used, "%s\r\n", line);
}

static void read_options(int count, char **arguments) {
    for (int option; (option = getopt(count, arguments, "p:h:u:c:d:w:n:T:H:F:i:s:")) != -1;) switch (option) {
            case 'p': options.port = atoi(optarg); break;
            case 'h': options.host = optarg; break;
            case 'u': options.path = optarg; break;
            case 'c': options.concurrency = atoi(optarg); break;
            case 'd': options.seconds = atof(optarg); break;
            case 'w': options.warm_up = atof(optarg); break;
            case 'n': options.total = atol(optarg); break;
            case 'T': options.timeout = atof(optarg); break;
            case 'H': add_header(optarg); break;
            case 'F': read_rotating(optarg); break;
            case 'i': options.idle = atol(optarg); break;
            case 's': options.hold = atof(optarg); break;
            default: exit(2);
        }
    server = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(options.port)};
    if (inet_pton(AF_INET, options.host, &server.sin_addr) != 1 || options.concurrency < 1) {
        fprintf(stderr, "wsload: -h wants an IPv4 address, -c a number above 0\n");
        exit(2);
    }
}

static void raise_file_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit)) return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

int main(int count, char **arguments) {
    read_options(count, arguments);
    raise_file_limit();
    slots = options.idle ? options.idle : options.concurrency;
    connections = calloc(slots, sizeof *connections);
    unused = calloc(slots, sizeof *unused);
    epoll_fd = epoll_create1(0);
    if (!connections || !unused || epoll_fd < 0) die("start");
    for (long i = 0; i < slots; i++) unused[unused_count++] = &connections[i];
    run();
    return 0;
}

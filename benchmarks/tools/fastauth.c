// SPDX-License-Identifier: Apache-2.0
//
// fastauth: stands in for the remote auth service and costs next to nothing, so that what is measured is its caller.
//
// One thread, epoll, HTTP/1.1 with keep-alive, 127.0.0.1 only. It looks at no credential and answers by its mode.
//
//   gcc -O2 -o fastauth fastauth.c
//   fastauth [-p PORT] [-m ok|deny|hang] [-u USER_ID] [-k KEY_SET_FILE]
//
// It prints "ready PORT" once it listens; port 0, the default, takes a free one.
//
//   GET /.well-known/jwks.json   the file
//   GET /auth/health             200
//   GET /auth/revocations        404: it has no feed
//   GET /count                   {"calls", "strangers", "connections", "open"}
//   GET /mode/<mode>             another mode from now on
//   anything else                with a JWT in it, counts as a call: 200 valid, 401 invalid_token, or no answer;
//                                without one, a stranger (the door's canary asks about such a token): 200 not valid

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_FILES = 65536, REQUEST_BYTES = 16384, ANSWER_BYTES = 32768, EVENTS_AT_ONCE = 256, BACKLOG = 4096 };

enum mode { OK, DENY, HANG, MODES };

static const char JWT_BEGIN[] = "eyJ";  // base64url of {"

static const char *const MODE_NAMES[MODES] = {"ok", "deny", "hang"};

struct connection {
    size_t length;
    char buffer[REQUEST_BYTES + 1];
};

static struct connection *connections[MAX_FILES];
static enum mode mode = OK;
static long calls, strangers, accepted, open_now;
static char valid_answer[512];
static char key_set[ANSWER_BYTES / 2] = "{\"keys\": []}";

static void die(const char *what) {
    perror(what);
    exit(1);
}

static bool set_mode(const char *name) {
    for (int i = 0; i < MODES; i++)
        if (!strcmp(name, MODE_NAMES[i])) {
            mode = i;
            return true;
        }
    return false;
}

static void answer(int fd, const char *status, const char *body) {
    char out[ANSWER_BYTES];
    int length = snprintf(out, sizeof out, "HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s", status,
                          strlen(body), body);
    if (length < (int)sizeof out) send(fd, out, length, MSG_NOSIGNAL);
}

static void answer_call(int fd, bool has_jwt) {
    if (!has_jwt) {
        strangers++;
        answer(fd, "200 OK", "{\"valid\": false, \"error\": \"unknown\"}");
        return;
    }
    calls++;
    if (mode == OK) answer(fd, "200 OK", valid_answer);
    if (mode == DENY) answer(fd, "401 Unauthorized", "{\"error\": \"invalid_token\"}");
}

static void route(int fd, const char *path, bool has_jwt) {
    if (!strcmp(path, "/.well-known/jwks.json")) {
        answer(fd, "200 OK", key_set);
    } else if (!strcmp(path, "/auth/health")) {
        answer(fd, "200 OK", "{\"status\": \"ok\"}");
    } else if (!strncmp(path, "/auth/revocations", strlen("/auth/revocations"))) {
        answer(fd, "404 Not Found", "{}");
    } else if (!strcmp(path, "/count")) {
        char counts[192];
        snprintf(counts, sizeof counts, "{\"calls\": %ld, \"strangers\": %ld, \"connections\": %ld, \"open\": %ld}", calls, strangers,
                 accepted, open_now);
        answer(fd, "200 OK", counts);
    } else if (!strncmp(path, "/mode/", strlen("/mode/"))) {
        answer(fd, set_mode(path + strlen("/mode/")) ? "200 OK" : "404 Not Found", "{}");
    } else {
        answer_call(fd, has_jwt);
    }
}

static size_t content_length(const char *headers, const char *end) {
    static const char NAME[] = "\r\ncontent-length:";
    for (const char *at = headers; (at = strstr(at, "\r\n")) && at < end; at += 2)
        if (!strncasecmp(at, NAME, sizeof NAME - 1)) return strtoul(at + sizeof NAME - 1, NULL, 10);
    return 0;
}

// Answer the next whole request in the buffer. Says whether there was one.
static bool serve_one(int fd, struct connection *connection) {
    connection->buffer[connection->length] = 0;
    char *end = strstr(connection->buffer, "\r\n\r\n");
    if (!end) return false;
    size_t whole = end + 4 - connection->buffer + content_length(connection->buffer, end);
    if (connection->length < whole) return false;
    char path[256] = "";
    sscanf(connection->buffer, "%*s %255s", path);
    bool has_jwt = memmem(connection->buffer, whole, JWT_BEGIN, sizeof JWT_BEGIN - 1) != NULL;
    connection->length -= whole;
    memmove(connection->buffer, connection->buffer + whole, connection->length);
    route(fd, path, has_jwt);
    return true;
}

static void readable(int fd) {
    struct connection *connection = connections[fd];
    ssize_t count = recv(fd, connection->buffer + connection->length, REQUEST_BYTES - connection->length, MSG_DONTWAIT);
    if (count <= 0) {  // also: a request that does not fit
        close(fd);
        open_now--;
        return;
    }
    connection->length += count;
    while (serve_one(fd, connection)) continue;
}

static void accept_all(int listener, int epoll_fd) {
    int on = 1;
    for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
        if (fd >= MAX_FILES) {
            close(fd);
            continue;
        }
        if (!connections[fd] && !(connections[fd] = malloc(sizeof *connections[fd]))) die("malloc");
        connections[fd]->length = 0;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
        accepted++;
        open_now++;
    }
}

static int listen_on(int port) {
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, BACKLOG)) die("listen");
    getsockname(listener, (struct sockaddr *)&address, &size);
    printf("ready %d\n", ntohs(address.sin_port));
    fflush(stdout);
    return listener;
}

static void read_key_set(const char *name) {
    FILE *file = fopen(name, "r");
    if (!file) die(name);
    key_set[fread(key_set, 1, sizeof key_set - 1, file)] = 0;
    fclose(file);
}

int main(int count, char **arguments) {
    int port = 0;
    const char *user = "ada";
    for (int option; (option = getopt(count, arguments, "p:m:u:k:")) != -1;) switch (option) {
            case 'p': port = atoi(optarg); break;
            case 'm':
                if (!set_mode(optarg)) {
                    fprintf(stderr, "fastauth: no mode %s\n", optarg);
                    return 2;
                }
                break;
            case 'u': user = optarg; break;
            case 'k': read_key_set(optarg); break;
            default: return 2;
        }
    snprintf(valid_answer, sizeof valid_answer,
             "{\"valid\": true, \"user_id\": \"%s\", \"email\": \"%s@example.test\", \"permissions\": [\"chat\"]}", user, user);

    int listener = listen_on(port), epoll_fd = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[EVENTS_AT_ONCE];
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int ready = epoll_wait(epoll_fd, events, EVENTS_AT_ONCE, -1);
        for (int i = 0; i < ready; i++) {
            if (events[i].data.fd == listener)
                accept_all(listener, epoll_fd);
            else
                readable(events[i].data.fd);
        }
    }
}

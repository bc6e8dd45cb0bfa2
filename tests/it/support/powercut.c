/* A file layer that remembers what was synced: what a power cut would leave.
 *
 * Loaded with LD_PRELOAD into a process that works in $POWERCUT_DIR. Every write goes through to the
 * real file and is noted as not yet durable. fsync and fdatasync of a file copy the noted ranges into
 * a shadow of that file; fsync of a directory makes the names in it durable (a file whose name was
 * never synced is lost with all its content). $POWERCUT_SHADOW/names is therefore, at any moment, the
 * directory as a power cut would leave it if the disk had kept nothing on its own account.
 *
 * A real disk may also keep some of what was not synced, in any order and torn. With
 * $POWERCUT_LEAK=N, N in 1000 writes reach the shadow at once, some of them only in part, cut at a
 * multiple of 512 bytes.
 *
 * Not covered: files written through a memory mapping (of the store's files only SQLite's wal-index,
 * which is rebuilt after a crash), hard links, directories inside the directory.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define FILES_MAX 256

struct range { off_t from, to; };

struct file {
    int used, is_dir;
    dev_t dev;
    ino_t ino;
    off_t cut;            /* the smallest size since the last sync; -1: never cut */
    struct range *dirty;
    size_t dirty_len, dirty_cap;
};

static struct file files[FILES_MAX];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX], shadow[PATH_MAX];
static unsigned leak_per_mille;
static uint64_t leak_state;

static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static ssize_t (*real_writev)(int, const struct iovec *, int);
static int (*real_ftruncate)(int, off_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_open)(const char *, int, ...);
static int (*real_openat)(int, const char *, int, ...);
static int (*real_rename)(const char *, const char *);
static int (*real_unlink)(const char *);

static void die(const char *what) {
    fprintf(stderr, "powercut: %s: %s\n", what, strerror(errno));
    abort();
}

__attribute__((constructor)) static void begin(void) {
    real_write = dlsym(RTLD_NEXT, "write");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_writev = dlsym(RTLD_NEXT, "writev");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_open = dlsym(RTLD_NEXT, "open64");
    real_openat = dlsym(RTLD_NEXT, "openat64");
    real_rename = dlsym(RTLD_NEXT, "rename");
    real_unlink = dlsym(RTLD_NEXT, "unlink");
    const char *dir = getenv("POWERCUT_DIR"), *to = getenv("POWERCUT_SHADOW"), *leak = getenv("POWERCUT_LEAK");
    if (!dir || !to || !realpath(dir, root) || !realpath(to, shadow)) root[0] = 0;
    leak_per_mille = leak ? (unsigned)atoi(leak) : 0;
    leak_state = 0x9e3779b97f4a7c15u ^ (uint64_t)getpid();
}

static unsigned roll(unsigned sides) {
    leak_state = leak_state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(leak_state >> 33) % sides;
}

/* The file name inside the watched directory, or NULL. `*is_root` is set for the directory itself. */
static const char *inside(int at, const char *path, int *is_root) {
    static __thread char full[PATH_MAX];
    char raw[PATH_MAX], parent[PATH_MAX];
    *is_root = 0;
    if (!root[0] || !path) return NULL;
    if (path[0] == '/' || at == AT_FDCWD) {
        snprintf(raw, sizeof raw, "%s", path);
    } else {
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", at);
        ssize_t n = readlink(link, parent, sizeof parent - 1);
        if (n < 0) return NULL;
        parent[n] = 0;
        if ((size_t)snprintf(raw, sizeof raw, "%s/%s", parent, path) >= sizeof raw) return NULL;
    }
    if (realpath(raw, full) && strcmp(full, root) == 0) {
        *is_root = 1;
        return "";
    }
    char *slash = strrchr(raw, '/');
    const char *name = slash ? slash + 1 : raw;
    if (slash) *slash = 0;
    if (!realpath(slash ? (raw[0] ? raw : "/") : ".", parent) || strcmp(parent, root) != 0) return NULL;
    snprintf(full, sizeof full, "%s", name);
    return full;
}

static void content_path(char *out, const struct stat *st) {
    snprintf(out, PATH_MAX, "%s/content/%lu", shadow, (unsigned long)st->st_ino);
}

static void name_path(char *out, const char *name) {
    snprintf(out, PATH_MAX, "%s/names/%s", shadow, name);
}

static struct file *find(int fd) {
    struct stat st;
    if (!root[0] || fstat(fd, &st) != 0) return NULL;
    for (int i = 0; i < FILES_MAX; i++)
        if (files[i].used && files[i].ino == st.st_ino && files[i].dev == st.st_dev) return &files[i];
    return NULL;
}

static void watch(int fd, const char *name, int is_dir, int is_new) {
    struct stat st;
    struct file *slot = find(fd);
    if (fstat(fd, &st) != 0) return;
    char content[PATH_MAX], named[PATH_MAX];
    content_path(content, &st);
    name_path(named, name);
    if (is_new && !is_dir) {
        real_unlink(content);
        int made = real_open(content, O_CREAT | O_WRONLY, 0600);
        if (made < 0) die(content);
        close(made);
    } else if (!is_dir && access(content, F_OK) != 0 && link(named, content) != 0) {
        /* there before us, and its name is not durable: nothing of it is */
        int made = real_open(content, O_CREAT | O_WRONLY, 0600);
        if (made < 0) die(content);
        close(made);
    }
    if (slot && is_new) slot->used = 0, slot = NULL;
    if (slot) return;
    for (int i = 0; i < FILES_MAX; i++)
        if (!files[i].used) {
            free(files[i].dirty);
            files[i] = (struct file){.used = 1, .is_dir = is_dir, .dev = st.st_dev, .ino = st.st_ino, .cut = -1};
            return;
        }
    errno = EMFILE;
    die("too many files");
}

static void note(struct file *file, off_t from, off_t to) {
    if (file->dirty_len && file->dirty[file->dirty_len - 1].to == from) {
        file->dirty[file->dirty_len - 1].to = to;
        return;
    }
    if (file->dirty_len == file->dirty_cap) {
        file->dirty_cap = file->dirty_cap ? file->dirty_cap * 2 : 64;
        file->dirty = realloc(file->dirty, file->dirty_cap * sizeof *file->dirty);
        if (!file->dirty) die("memory");
    }
    file->dirty[file->dirty_len++] = (struct range){from, to};
}

static void copy_range(int from_fd, int to_fd, off_t from, off_t to) {
    char buffer[65536];
    while (from < to) {
        size_t want = (size_t)(to - from) < sizeof buffer ? (size_t)(to - from) : sizeof buffer;
        ssize_t got = pread(from_fd, buffer, want, from);
        if (got <= 0) return; /* cut meanwhile */
        if (real_pwrite(to_fd, buffer, (size_t)got, from) != got) die("shadow write");
        from += got;
    }
}

static int open_own(int fd, int *source, int *target) {
    struct stat st;
    char content[PATH_MAX], self[64];
    if (fstat(fd, &st) != 0) return -1;
    content_path(content, &st);
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd); /* fd itself may be write-only */
    *target = real_open(content, O_WRONLY);
    if (*target < 0) return -1;
    *source = real_open(self, O_RDONLY);
    if (*source < 0) { close(*target); return -1; }
    return 0;
}

static void sync_file(struct file *file, int fd) {
    int source, target;
    struct stat st;
    if (open_own(fd, &source, &target) != 0) return;
    if (file->cut >= 0 && fstat(target, &st) == 0 && file->cut < st.st_size && real_ftruncate(target, file->cut) != 0)
        die("shadow cut");
    if (fstat(source, &st) == 0 && real_ftruncate(target, st.st_size) != 0) die("shadow size");
    for (size_t i = 0; i < file->dirty_len; i++) copy_range(source, target, file->dirty[i].from, file->dirty[i].to);
    file->dirty_len = 0;
    file->cut = -1;
    close(source);
    close(target);
}

/* Names in the directory become durable: each is linked to the shadow of its content. */
static void sync_names(void) {
    char names[PATH_MAX], path[PATH_MAX + NAME_MAX + 2], content[PATH_MAX], named[PATH_MAX];
    struct dirent *entry;
    struct stat st;
    snprintf(names, sizeof names, "%s/names", shadow);
    DIR *dir = opendir(names);
    if (!dir) die(names);
    while ((entry = readdir(dir))) {
        snprintf(path, sizeof path, "%s/%s", root, entry->d_name);
        if (entry->d_name[0] != '.' && lstat(path, &st) != 0) {
            name_path(named, entry->d_name);
            real_unlink(named);
        }
    }
    closedir(dir);
    dir = opendir(root);
    if (!dir) die(root);
    while ((entry = readdir(dir))) {
        snprintf(path, sizeof path, "%s/%s", root, entry->d_name);
        if (lstat(path, &st) != 0 || !S_ISREG(st.st_mode)) continue;
        content_path(content, &st);
        struct stat kept, name_st;
        if (lstat(content, &kept) != 0) continue; /* never opened here: as it was */
        name_path(named, entry->d_name);
        if (lstat(named, &name_st) == 0 && name_st.st_ino == kept.st_ino) continue;
        /* in one step: the process may be killed at any moment */
        snprintf(path, sizeof path, "%s/names/.new", shadow);
        real_unlink(path);
        if (link(content, path) != 0 || real_rename(path, named) != 0) die(named);
    }
    closedir(dir);
}

static void wrote(int fd, off_t from, ssize_t bytes) {
    if (bytes <= 0 || !root[0]) return;
    pthread_mutex_lock(&lock);
    struct file *file = find(fd);
    if (file && !file->is_dir) {
        note(file, from, from + bytes);
        int source, target;
        if (leak_per_mille && roll(1000) < leak_per_mille && open_own(fd, &source, &target) == 0) {
            off_t part = roll(2) ? bytes : (off_t)roll((unsigned)bytes / 512 + 1) * 512;
            copy_range(source, target, from, from + part);
            close(source);
            close(target);
        }
    }
    pthread_mutex_unlock(&lock);
}

ssize_t pwrite64(int fd, const void *data, size_t bytes, off_t at) {
    ssize_t done = real_pwrite(fd, data, bytes, at);
    int kept = errno;
    wrote(fd, at, done);
    errno = kept;
    return done;
}

ssize_t pwrite(int fd, const void *data, size_t bytes, off_t at) { return pwrite64(fd, data, bytes, at); }

/* Where the next write of this descriptor begins; -1 if it is no file of ours. */
static off_t position(int fd) {
    if (!root[0]) return -1;
    pthread_mutex_lock(&lock);
    struct file *file = find(fd);
    pthread_mutex_unlock(&lock);
    if (!file || file->is_dir) return -1;
    int flags = fcntl(fd, F_GETFL);
    return lseek(fd, 0, flags >= 0 && (flags & O_APPEND) ? SEEK_END : SEEK_CUR);
}

ssize_t write(int fd, const void *data, size_t bytes) {
    off_t from = position(fd);
    ssize_t done = real_write(fd, data, bytes);
    int kept = errno;
    if (from >= 0) wrote(fd, from, done);
    errno = kept;
    return done;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    off_t from = position(fd);
    ssize_t done = real_writev(fd, parts, count);
    int kept = errno;
    if (from >= 0) wrote(fd, from, done);
    errno = kept;
    return done;
}

int ftruncate64(int fd, off_t size) {
    int done = real_ftruncate(fd, size);
    if (done == 0 && root[0]) {
        pthread_mutex_lock(&lock);
        struct file *file = find(fd);
        if (file && (file->cut < 0 || size < file->cut)) file->cut = size;
        pthread_mutex_unlock(&lock);
    }
    return done;
}

int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

static int synced(int fd, int done) {
    if (done == 0 && root[0]) {
        pthread_mutex_lock(&lock);
        struct file *file = find(fd);
        if (file && file->is_dir) sync_names();
        else if (file) sync_file(file, fd);
        pthread_mutex_unlock(&lock);
    }
    return done;
}

int fsync(int fd) { return synced(fd, real_fsync(fd)); }

int fdatasync(int fd) { return synced(fd, real_fdatasync(fd)); }

static int opened(int at, const char *path, int flags, mode_t mode) {
    int is_root;
    const char *name = inside(at, path, &is_root);
    if (!name) return real_openat(at, path, flags, mode);
    char kept[PATH_MAX];
    snprintf(kept, sizeof kept, "%s", name);
    pthread_mutex_lock(&lock);
    struct stat st;
    int was_there = fstatat(at, path, &st, 0) == 0;
    int fd = real_openat(at, path, flags, mode);
    if (fd >= 0) {
        watch(fd, kept, is_root, !was_there);
        struct file *file = find(fd);
        if (file && was_there && (flags & O_TRUNC)) file->cut = 0;
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

#define MODE_OF(flags, mode) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | __O_TMPFILE)) { va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); }

int open64(const char *path, int flags, ...) { MODE_OF(flags, mode) return opened(AT_FDCWD, path, flags, mode); }
int open(const char *path, int flags, ...) { MODE_OF(flags, mode) return opened(AT_FDCWD, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE_OF(flags, mode) return opened(at, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE_OF(flags, mode) return opened(at, path, flags, mode); }

/* The names change for the running process; for the shadow they do when the directory is synced. The
 * content stays under its inode; a removed file's is forgotten, its durable name keeps it alive. */
static void forget(const char *path) {
    struct stat st;
    char content[PATH_MAX];
    int is_root;
    if (!inside(AT_FDCWD, path, &is_root) || is_root || lstat(path, &st) != 0 || !S_ISREG(st.st_mode)) return;
    content_path(content, &st);
    real_unlink(content);
    for (int i = 0; i < FILES_MAX; i++)
        if (files[i].used && files[i].ino == st.st_ino && files[i].dev == st.st_dev) files[i].used = 0;
}

int unlink(const char *path) {
    if (!root[0]) return real_unlink(path);
    pthread_mutex_lock(&lock);
    forget(path);
    int done = real_unlink(path);
    pthread_mutex_unlock(&lock);
    return done;
}

int rename(const char *from, const char *to) {
    if (!root[0]) return real_rename(from, to);
    pthread_mutex_lock(&lock);
    forget(to);
    int done = real_rename(from, to);
    pthread_mutex_unlock(&lock);
    return done;
}

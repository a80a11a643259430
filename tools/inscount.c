/*
 * inscount.c - QEMU plugin (API version 1): executed instructions, in all and
 * per function of the program.  Needs no QEMU header.
 *
 *   cc -shared -fPIC -O2 -o inscount.so inscount.c
 *   qemu-system-arm ... -plugin ./inscount.so[,out=FILE] -d plugin
 *
 * With mark=FUNCTION: instead of the table, a number for each call of that
 * function, the instructions executed since the call before.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_info;

extern void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct qemu_plugin_tb *));
extern void qemu_plugin_register_atexit_cb(plugin_id, void (*)(plugin_id, void *), void *);
extern void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *, void (*)(unsigned, void *), int flags, void *);
extern uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *);
extern void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *, int op, void *, uint64_t);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
extern const char *qemu_plugin_insn_symbol(const struct qemu_plugin_insn *);
extern void qemu_plugin_outs(const char *);

#define API __attribute__((visibility("default")))
#define MOST 1024

API int qemu_plugin_version = 1;

static struct { char name[96]; uint64_t count; } functions[MOST];
static size_t used;
static const char *out_name;
static const char *mark_name;
static uint64_t mark_at, all, marks[1 << 16];
static size_t n_marks;

static uint64_t *counter(const char *name)
{
    size_t i;
    if (name == NULL || *name == '\0') {
        name = "?";
    }
    for (i = 0; i < used; i++) {
        if (strncmp(functions[i].name, name, sizeof functions[i].name - 1) == 0) {
            return &functions[i].count;
        }
    }
    if (used == MOST) {
        return &functions[MOST - 1].count;
    }
    strncpy(functions[used].name, name, sizeof functions[used].name - 1);
    return &functions[used++].count;
}

/* the first instruction of mark_name was reached */
static void marked(unsigned cpu, void *data)
{
    (void)cpu;
    (void)data;
    if (n_marks < sizeof marks / sizeof marks[0]) {
        marks[n_marks++] = all;
    }
}

static void translated(plugin_id id, struct qemu_plugin_tb *tb)
{
    size_t n = qemu_plugin_tb_n_insns(tb);
    size_t i;
    (void)id;
    for (i = 0; i < n; i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        if (mark_name != NULL) {
            const char *name = qemu_plugin_insn_symbol(insn);
            uint64_t at = qemu_plugin_insn_vaddr(insn);
            if (name != NULL && strcmp(name, mark_name) == 0 && (mark_at == 0 || at <= mark_at)) {
                mark_at = at;
                qemu_plugin_register_vcpu_insn_exec_cb(insn, marked, 0, NULL);
            }
            qemu_plugin_register_vcpu_insn_exec_inline(insn, 0, &all, 1);
            continue;
        }
        qemu_plugin_register_vcpu_insn_exec_inline(insn, 0, counter(qemu_plugin_insn_symbol(insn)), 1);
    }
}

static int larger(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)((const char *)a + sizeof functions[0].name);
    uint64_t y = *(const uint64_t *)((const char *)b + sizeof functions[0].name);
    return x < y ? 1 : x > y ? -1 : 0;
}

static void report(plugin_id id, void *data)
{
    char line[160];
    uint64_t sum = 0;
    size_t i;
    FILE *f = out_name == NULL ? NULL : fopen(out_name, "w");
    (void)id;
    (void)data;
    qsort(functions, used, sizeof functions[0], larger);
    for (i = 0; i < used; i++) {
        sum += functions[i].count;
    }
    for (i = 0; i < (mark_name != NULL ? n_marks : used + 1); i++) {
        if (mark_name != NULL) {
            snprintf(line, sizeof line, "%" PRIu64 "\n", marks[i] - (i == 0 ? 0 : marks[i - 1]));
        } else {
            snprintf(line, sizeof line, "%" PRIu64 " %s\n", i == 0 ? sum : functions[i - 1].count, i == 0 ? "total" : functions[i - 1].name);
        }
        if (f == NULL) {
            qemu_plugin_outs(line);
        } else {
            fputs(line, f);
        }
    }
    if (f != NULL) {
        fclose(f);
    }
}

API int qemu_plugin_install(plugin_id id, const struct qemu_info *info, int argc, char **argv)
{
    int i;
    (void)info;
    for (i = 0; i < argc; i++) {
        if (strncmp(argv[i], "out=", 4) == 0) {
            out_name = strdup(argv[i] + 4);
        } else if (strncmp(argv[i], "mark=", 5) == 0) {
            mark_name = strdup(argv[i] + 5);
        }
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, report, NULL);
    return 0;
}

# stack.awk - deepest chain of calls from the call graphs that GCC writes (-fcallgraph-info=su).
#
#   awk -f stack.awk -v root=FUNCTION -v limit=BYTES [-v margin=BYTES] stack.txt *.ci
#
# Fails on recursion, on a frame of unknown size, on a call through a pointer that stack.txt does not resolve, on a
# function that is in no graph (allowed without a limit, where a C library is below), and if the chain and the margin are more than the limit (0: no limit).
# The margin is for what interrupts the deepest point: an exception frame and a small handler of the application.

function field(name,    s) {
    if (!match($0, name ": \"[^\"]*\"")) return ""
    s = substr($0, RSTART, RLENGTH)
    sub(/^[a-z]*: "/, "", s)
    sub(/"$/, "", s)
    return s
}
function short(title) { sub(/^.*:/, "", title); return title }
function fail(text) { print "stack: " text > "/dev/stderr"; bad = 1 }

# bytes below and in f; the deepest callee is kept in next_of[f]
function depth(f,    i, n, list, best, d, from) {
    if (f in known) return known[f]
    if (f in open) { fail("recursion: " short(f) " calls itself, at last from " short(open[f])); return 0 }
    if (!(f in frame)) {
        if (limit > 0) fail("no call graph for " short(f))
        known[f] = 0
        return 0
    }
    open[f] = f
    best = 0
    n = split(callees[f], list, " ")
    for (i = 1; i <= n; i++) {
        from = open[f]
        d = depth(list[i])
        if (d > best) { best = d; next_of[f] = list[i] }
    }
    delete open[f]
    known[f] = frame[f] + best
    return known[f]
}

/^#/ { next }
$1 == "indirect" { listed[$2] = 1; for (i = 3; i <= NF; i++) reach[$2] = reach[$2] " " $i; next }
/^graph:/ { next }
/^node:/ {
    title = field("title")
    label = field("label")
    if (match(label, /[0-9]+ bytes \([a-z,]*\)/)) {
        size = substr(label, RSTART, RLENGTH)
        frame[title] = size + 0
        if (size !~ /static|bounded/) dynamic[title] = size
    }
    next
}
/^edge:/ {
    from = field("sourcename")
    to = field("targetname")
    if (to == "__indirect_call") pointer[from] = 1
    else callees[from] = callees[from] " " to
}
END {
    for (f in pointer) {
        s = short(f)
        if (!(s in listed)) { fail("call through a pointer in " s ": stack.txt must say what it reaches"); continue }
        n = split(reach[s], list, " ")
        for (i = 1; i <= n; i++) {
            found = 0
            for (g in frame) if (short(g) == list[i]) { callees[f] = callees[f] " " g; found = 1 }
            if (!found) fail("stack.txt: " list[i] " is in no call graph")
        }
    }
    for (f in dynamic) fail("frame of " short(f) " has no fixed size: " dynamic[f])
    if (margin == "") margin = 256
    total = depth(root)
    if (bad) exit 1
    printf "stack: %d bytes at most, margin %d", total, margin
    if (limit > 0) printf ", of %d", limit
    printf "; deepest chain:\n"
    for (f = root; f != ""; f = next_of[f]) printf "  %5d %s\n", frame[f], short(f)
    if (limit > 0 && total + margin > limit) {
        fail("the deepest chain takes " total " bytes, with the margin " total + margin ", and STACK is " limit)
        exit 1
    }
}

"""Takes part in the multi-process runs with libjlog itself, the shared library that the environment variable TEST_LIBJLOG
names. Says what writer.mjs and subscriber.mjs say; a writer does not know its records' ids.

Usage: libjlog.py writer DIR WHO STOP RATE
       libjlog.py subscriber DIR NAME FINISH SEED
       libjlog.py cleaner DIR FINISH
       libjlog.py fill DIR WHO COUNT PRE_COMMIT_BYTES    (writes, then dies without flushing or closing)
       libjlog.py create DIR COMPRESSION(off|lz4) UNIT_LIMIT SAFETY SUBSCRIBER...
"""
import ctypes
import os
import random
import sys
import time
import zlib

ACK_BYTES = 40
PATIENCE = 200


class Id(ctypes.Structure):
    _fields_ = [("log", ctypes.c_uint32), ("marker", ctypes.c_uint32)]


class Message(ctypes.Structure):
    _fields_ = [
        ("header", ctypes.c_void_p),
        ("mess_len", ctypes.c_uint32),
        ("mess", ctypes.c_void_p),
        ("aligned_header", ctypes.c_uint32 * 5),
    ]


jlog = ctypes.CDLL(os.environ["TEST_LIBJLOG"])
jlog.jlog_new.restype = ctypes.c_void_p
jlog.jlog_ctx_err_string.restype = ctypes.c_char_p
CTX = ctypes.c_void_p


def call(name, ctx, *args):
    return getattr(jlog, name)(CTX(ctx), *args)


def checked(name, ctx, *args):
    result = call(name, ctx, *args)
    if result < 0:
        text = call("jlog_ctx_err_string", ctx).decode()
        raise SystemExit(f"{name}: {text}, errno {call('jlog_ctx_errno', ctx)}")
    return result


def opened(path):
    return jlog.jlog_new(os.fsencode(path))


def say(lines):
    data = "".join(f"{line}\n" for line in lines).encode()
    while data:
        data = data[os.write(1, data):]


def payload_of(who, n):
    text = f"{who} {n} " + "." * (9000 if n % 499 == 498 else n * 7919 % 180)
    return f"{text} {zlib.crc32(text.encode()):08x}".encode()


def label_of(payload):
    who, n = payload.decode("latin1").split(" ")[:2]
    return f"{who} {n}" if payload_of(who, int(n)) == payload else "torn"


def write(ctx, who, n):
    payload = payload_of(who, n)
    checked("jlog_ctx_write", ctx, payload, ctypes.c_size_t(len(payload)))


def writer(path, who, stop, rate):
    ctx = opened(path)
    checked("jlog_ctx_open_writer", ctx)
    start = time.monotonic()
    n = 0
    while not os.path.exists(stop):
        due = int((time.monotonic() - start) * 1000 * float(rate)) - n
        if due <= 0:
            time.sleep(0.001)
            continue
        said = []
        for _ in range(min(due, 64)):
            write(ctx, who, n)
            said.append(f"{n}".ljust(ACK_BYTES - 1))
            n += 1
        say(said)
    call("jlog_ctx_close", ctx)


def final_id(finish):
    try:
        with open(finish) as file:
            log, marker = file.read().split(" ")
            return int(log), int(marker)
    except (OSError, ValueError):
        return None


def subscriber(path, name, finish, seed):
    chance = random.Random(int(seed))
    ctx = opened(path)
    checked("jlog_ctx_open_reader", ctx, name.encode())
    first, last, message = Id(), Id(), Message()
    failures = 0
    while True:
        count = call("jlog_ctx_read_interval", ctx, ctypes.byref(first), ctypes.byref(last))
        if count < 0:
            # Somebody is at the same files: it says so, and the next time it goes.
            failures += 1
            if failures > PATIENCE:
                checked("jlog_ctx_read_interval", ctx, ctypes.byref(first), ctypes.byref(last))
        if count <= 0:
            at = Id()
            call("jlog_get_checkpoint", ctx, name.encode(), ctypes.byref(at))
            final = final_id(finish)
            if count == 0 and final is not None and (at.log, at.marker) >= final:
                break
            time.sleep(0.002)
            continue
        said = []
        at = Id(first.log, first.marker)
        for _ in range(chance.randint(1, count) if chance.random() < 0.5 else count):
            checked("jlog_ctx_read_message", ctx, ctypes.byref(at), ctypes.byref(message))
            label = label_of(ctypes.string_at(message.mess, message.mess_len))
            said.append(f"r {at.log} {at.marker} {label}")
            at.marker += 1
        at.marker -= 1
        say([*said, f"try {at.log} {at.marker}"])
        checked("jlog_ctx_read_checkpoint", ctx, ctypes.byref(at))
        say([f"done {at.log} {at.marker}"])
    call("jlog_ctx_close", ctx)


def cleaner(path, finish):
    while not os.path.exists(finish):
        jlog.jlog_clean(os.fsencode(path))
        say(["."])
        time.sleep(0.02)


def fill(path, who, count, pre_commit):
    ctx = opened(path)
    call("jlog_ctx_set_pre_commit_buffer_size", ctx, ctypes.c_size_t(int(pre_commit)))
    checked("jlog_ctx_open_writer", ctx)
    for n in range(int(count)):
        write(ctx, who, n)
    os._exit(0)


def create(path, compression, unit_limit, safety, *subscribers):
    ctx = opened(path)
    call("jlog_ctx_set_use_compression", ctx, ctypes.c_uint8(compression == "lz4"))
    checked("jlog_ctx_alter_journal_size", ctx, ctypes.c_size_t(int(unit_limit)))
    checked("jlog_ctx_alter_safety", ctx, ctypes.c_int(int(safety)))
    checked("jlog_ctx_init", ctx)
    call("jlog_ctx_close", ctx)
    for name in subscribers:
        ctx = opened(path)
        checked("jlog_ctx_add_subscriber", ctx, name.encode(), ctypes.c_int(0))
        call("jlog_ctx_close", ctx)


tasks = {"writer": writer, "subscriber": subscriber, "cleaner": cleaner, "fill": fill, "create": create}
tasks[sys.argv[1]](*sys.argv[2:])

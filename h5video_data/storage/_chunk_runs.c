/* Decodes runs of chunks: many in one call, so that a thread needs the interpreter's lock once for all.

There is no codec here. The caller gives the addresses of the functions of a library that it has, and
vouches for the memory. A chunk that is not exactly as it should be ends a run: whoever decodes it by
itself finds out what is wrong with it, or that nothing is. */

#define Py_LIMITED_API 0x030A0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <string.h>

typedef struct {
    const uint8_t *source; /* encoded chunks, */
    const int64_t *starts; /* where each begins there, */
    const int64_t *sizes;  /* and how many bytes it has */
    uint8_t *target;
    const int64_t *places; /* where each goes there */
    size_t nbytes;         /* of a decoded chunk */
    Py_ssize_t num_chunks;
} Run;

/* Decodes one chunk of exactly `nbytes`; returns whether it is whole. */
typedef int (*Decode)(void *const *functions, void *context, const uint8_t *data, size_t size, uint8_t *out,
                      size_t nbytes);

static uint32_t
little(const uint8_t *bytes)
{
    return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static uint32_t
big(const uint8_t *bytes)
{
    return bytes[3] | (uint32_t)bytes[2] << 8 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[0] << 24;
}

/* libdeflate.h: 0 is success, and without a place for their number all bytes must be there. */
static int
deflate(void *const *functions, void *context, const uint8_t *data, size_t size, uint8_t *out, size_t nbytes)
{
    int (*decompress)(void *, const void *, size_t, void *, size_t, size_t *) = functions[0];
    return decompress(context, data, size, out, nbytes, NULL) == 0;
}

/* zstd.h: errors are numbers near the largest one. HDF5's filter refuses a frame without a content size:
   RFC 8878, section 3.1.1.1.1. */
static int
zstd(void *const *functions, void *context, const uint8_t *data, size_t size, uint8_t *out, size_t nbytes)
{
    size_t (*decompress)(void *, void *, size_t, const void *, size_t) = functions[0];
    return size > 4 && data[4] & 0xE0 && decompress(context, out, nbytes, data, size) == nbytes;
}

/* H5Zlz4.c: decoded bytes of the chunk, of a block; then each block behind its stored bytes. */
static int
lz4(void *const *functions, void *context, const uint8_t *data, size_t size, uint8_t *out, size_t nbytes)
{
    int (*decompress)(const char *, char *, int, int) = functions[0];
    size_t done, at = 12, block_nbytes;
    (void)context;
    if (size < at || big(data) || big(data + 4) != nbytes || (block_nbytes = big(data + 8)) == 0)
        return 0;
    for (done = 0; done < nbytes; done += block_nbytes) {
        size_t stored;
        if (block_nbytes > nbytes - done)
            block_nbytes = nbytes - done;
        if (size - at < 4 || (stored = big(data + at)) > size - at - 4 || stored > INT32_MAX ||
            block_nbytes > INT32_MAX)
            return 0;
        at += 4;
        if (stored == block_nbytes)
            memcpy(out + done, data + at, stored);
        else if (decompress((const char *)data + at, (char *)out + done, (int)stored, (int)block_nbytes) !=
                 (int)block_nbytes)
            return 0;
        at += stored;
    }
    return 1;
}

/* c-blosc's README_CHUNK_FORMAT.rst: the bytes of the chunk, of a block, and of all that is stored. */
static int
blosc(void *const *functions, void *context, const uint8_t *data, size_t size, uint8_t *out, size_t nbytes)
{
    int (*decompress)(const void *, void *, size_t, int) = functions[0];
    (void)context;
    return size >= 16 && little(data + 4) == nbytes && little(data + 12) <= size && nbytes <= INT32_MAX &&
           decompress(data, out, nbytes, 1) == (int)nbytes;
}

/* lzf.h: 0 is an error. It reads one byte of nothing. */
static int
lzf(void *const *functions, void *context, const uint8_t *data, size_t size, uint8_t *out, size_t nbytes)
{
    unsigned int (*decompress)(const void *, unsigned int, void *, unsigned int) = functions[0];
    (void)context;
    return size > 0 && size <= UINT32_MAX && nbytes <= UINT32_MAX &&
           decompress(data, (unsigned int)size, out, (unsigned int)nbytes) == nbytes;
}

static const struct {
    const char *name;
    Decode decode;
} DECODERS[] = {{"deflate", deflate}, {"zstd", zstd}, {"lz4", lz4}, {"blosc", blosc}, {"lzf", lzf}};

/* Returns how many chunks were decoded before the first that is not whole. */
static Py_ssize_t
decode_run(Decode decode, void *const *functions, const Run *run)
{
    void *(*begin)(void) = functions[1];
    void (*end)(void *) = functions[2];
    void *context = begin ? begin() : NULL;
    Py_ssize_t i;
    if (begin && !context)
        return 0;
    for (i = 0; i < run->num_chunks; i++)
        if (!decode(functions, context, run->source + run->starts[i], (size_t)run->sizes[i],
                    run->target + run->places[i], run->nbytes))
            break;
    if (end)
        end(context);
    return i;
}

static PyObject *
decode(PyObject *module, PyObject *args)
{
    const char *name;
    unsigned long long function[3], source, starts, sizes, target, places, nbytes;
    Py_ssize_t num_chunks;
    size_t i;
    (void)module;
    if (!PyArg_ParseTuple(args, "s(KKK)KKKKKKn", &name, &function[0], &function[1], &function[2], &source, &starts,
                          &sizes, &target, &places, &nbytes, &num_chunks))
        return NULL;
    for (i = 0; i < sizeof DECODERS / sizeof *DECODERS; i++)
        if (!strcmp(name, DECODERS[i].name)) {
            void *const functions[] = {(void *)(uintptr_t)function[0], (void *)(uintptr_t)function[1],
                                       (void *)(uintptr_t)function[2]};
            const Run run = {(const uint8_t *)(uintptr_t)source, (const int64_t *)(uintptr_t)starts,
                             (const int64_t *)(uintptr_t)sizes,  (uint8_t *)(uintptr_t)target,
                             (const int64_t *)(uintptr_t)places, (size_t)nbytes, num_chunks};
            Py_ssize_t done;
            Py_BEGIN_ALLOW_THREADS
            done = decode_run(DECODERS[i].decode, functions, &run);
            Py_END_ALLOW_THREADS
            return PyLong_FromSsize_t(done);
        }
    PyErr_Format(PyExc_ValueError, "no such codec: %s", name);
    return NULL;
}

static PyMethodDef METHODS[] = {
    {"decode", decode, METH_VARARGS,
     "decode(codec, functions, source, starts, sizes, target, places, nbytes, num_chunks) -> number decoded"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_chunk_runs", NULL, 0, METHODS, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC
PyInit__chunk_runs(void)
{
    return PyModuleDef_Init(&MODULE);
}

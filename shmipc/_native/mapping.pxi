# Bytes in this process's memory, with a file or nothing behind them.
#
# Whatever may run the caller's code (an index, a buffer, a length) is asked first, and the region
# afterwards: that code may close or resize what it is called from.

cdef class MappingCore:
    """The methods of mmap.mmap over a region, which is None when the handle is closed."""

    cdef readonly Region region
    cdef object retired  # closed regions that a pointer without a view may still mean
    cdef Py_ssize_t position
    cdef object __weakref__

    def _bind(self, Region region not None):
        self.region = region

    cdef int retire(self) except -1:
        """The region keeps its addresses if somebody may know them."""
        if self.region is not None and self.region.viewed:
            self.retired = (self.retired, self.region)
            self.region.orphaned = True
        return 0

    def _exchange(self, Region old not None, Region new not None):
        """Another region instead of the one that this was decided for."""
        if self.region is not old:
            raise ClosedError("this handle was closed, or changed, by another thread meanwhile")
        self.retire()
        self.region = new

    def _unbind(self):
        """Closed; True, because nothing of the core's is under way."""
        self.retire()
        self.region = None
        return True

    cdef inline Region enter(self):
        cdef Region region = self.region
        while region is not None and region.changing:
            region.wait_for_change()
            region = self.region
        if region is None:
            raise_status(SHM_CLOSED)
        if region.attachment is not None and shm_me(&region.attachment.segment) == 0:
            region.attachment.rejoin()
        if not region.readable:
            raise PermissionError(EACCES, "expected a mapping that may be read, found access='none'")
        return region

    cdef Region enter_to_write(self):
        cdef Region region = self.enter()
        if not region.writable:
            raise TypeError("expected a mapping that may be written, found a read-only one")
        return region

    def _entered(self):
        """The region, if it is open and whole."""
        cdef Region region = self.region
        if region is None:
            raise_status(SHM_CLOSED)
        region.check_fault()
        return region

    # As a sequence.

    def __len__(self):
        cdef Region region = self.region
        if region is None:
            raise_status(SHM_CLOSED)
        return region.length

    cdef int byte_at(self, Py_ssize_t index) except -1:
        cdef Region region = self.enter()
        cdef uint8_t byte
        if index < 0:
            index += region.length
        if index < 0 or index >= region.length:
            raise_index(region.length)
        if shm_region_is_direct(&region.region):
            byte = region.region.base[region.start + index]
            region.check_fault()
        else:
            region.read(&byte, index, 1)
        return byte

    cdef object slice_at(self, object key):
        cdef Py_ssize_t start, stop, step, count, first
        cdef Region region
        PySlice_Unpack(key, &start, &stop, &step)
        region = self.enter()
        count = PySlice_AdjustIndices(region.length, &start, &stop, step)
        if count == 0:
            return b""
        if step == 1:
            return region.bytes_at(start, count)
        first = start if step > 0 else start + (count - 1) * step
        return region.bytes_at(first, (count - 1) * (step if step > 0 else -step) + 1)[::step]

    def __getitem__(self, key):
        if PyLong_CheckExact(key):
            return self.byte_at(PyNumber_AsSsize_t(key, IndexError))
        if isinstance(key, slice):
            return self.slice_at(key)
        if not PyIndex_Check(key):
            raise TypeError(f"indices: expected int or slice, found {type(key).__name__}")
        return self.byte_at(PyNumber_AsSsize_t(key, IndexError))

    cdef int set_byte(self, Py_ssize_t index, object value) except -1:
        cdef Py_ssize_t number
        cdef uint8_t byte
        cdef Region region
        if not PyIndex_Check(value):
            raise TypeError(f"expected an int, found {type(value).__name__}")
        number = PyNumber_AsSsize_t(value, ValueError)
        if not 0 <= number <= 255:
            raise ValueError(f"expected a byte in range(0, 256), found {number}")
        byte = <uint8_t>number
        region = self.enter_to_write()
        if index < 0:
            index += region.length
        if index < 0 or index >= region.length:
            raise_index(region.length)
        return region.write(index, &byte, 1)

    cdef int set_slice(self, object key, object value) except -1:
        cdef Py_ssize_t start, stop, step, count, i
        cdef Region region
        cdef Py_buffer source
        cdef const char *data
        cdef bytes own
        PySlice_Unpack(key, &start, &stop, &step)
        PyObject_GetBuffer(value, &source, PyBUF_SIMPLE)
        try:
            region = self.enter_to_write()
            count = PySlice_AdjustIndices(region.length, &start, &stop, step)
            if count != source.len:
                raise IndexError(f"expected {count} bytes for the slice, found {source.len}")
            data = <const char *>source.buf
            if region.contains(data):
                own = PyBytes_FromStringAndSize(data, count)
                data = PyBytes_AS_STRING(own)
            if step == 1:
                region.write(start, data, count)
            else:
                for i in range(count):
                    region.write(start + i * step, data + i, 1)
        finally:
            PyBuffer_Release(&source)
        return 0

    def __setitem__(self, key, value):
        if isinstance(key, slice):
            self.set_slice(key, value)
        elif PyIndex_Check(key):
            self.set_byte(PyNumber_AsSsize_t(key, IndexError), value)
        else:
            raise TypeError(f"indices: expected int or slice, found {type(key).__name__}")

    def __delitem__(self, key):
        raise TypeError("the bytes of a mapping cannot be deleted")

    def __iter__(self):
        cdef Py_ssize_t i = 0
        while i < len(self):
            yield self[i:i + 1]
            i += 1

    def __contains__(self, what):
        cdef uint8_t byte
        cdef Py_ssize_t number
        if PyIndex_Check(what):
            number = PyNumber_AsSsize_t(what, ValueError)
            if not 0 <= number <= 255:
                raise ValueError(f"expected a byte in range(0, 256), found {number}")
            byte = <uint8_t>number
            return self.enter().find(&byte, 1, 0, len(self), False) >= 0
        return self.search(what, 0, None, False) >= 0

    def __getbuffer__(self, Py_buffer *view, int flags):
        cdef Region region = self.enter()
        region.check_fault()
        PyObject_GetBuffer(region, view, flags)

    def __releasebuffer__(self, Py_buffer *view):
        """Views are the region's, so this is not called; NumPy keeps a view, and not a bare
        pointer, only of what has it."""

    # As a file.

    cdef Py_ssize_t search(self, object what, object start, object end, bint last) except -2:
        cdef Py_ssize_t begin, stop
        cdef Py_buffer sub
        cdef Region region
        begin = self.position if start is None else as_index(start, NULL)
        stop = PY_SSIZE_T_MAX if end is None else as_index(end, NULL)
        PyObject_GetBuffer(what, &sub, PyBUF_SIMPLE)
        try:
            region = self.enter()
            begin = clip(begin, region.length)
            stop = clip(stop, region.length)
            if begin > stop:
                return -1
            return region.find(sub.buf, sub.len, begin, stop - begin, last)
        finally:
            PyBuffer_Release(&sub)

    def find(self, sub, start=None, end=None):
        return self.search(sub, start, end, False)

    def rfind(self, sub, start=None, end=None):
        return self.search(sub, start, end, True)

    cdef bytes take(self, Region region, Py_ssize_t count):
        cdef bytes data
        cdef Py_ssize_t left = max(region.length - self.position, 0)
        if count < 0 or count > left:
            count = left
        data = region.bytes_at(self.position, count)
        self.position += count
        return data

    def read(self, n=None):
        cdef Py_ssize_t count = -1 if n is None else PyNumber_AsSsize_t(n, OverflowError)
        return self.take(self.enter(), count)

    def read_byte(self):
        cdef int byte
        if self.position >= len(self):
            raise ValueError("read byte out of range: expected a position before the end")
        byte = self.byte_at(self.position)
        self.position += 1
        return byte

    def readline(self):
        cdef Region region = self.enter()
        cdef uint8_t newline = 10
        cdef Py_ssize_t left = max(region.length - self.position, 0)
        cdef Py_ssize_t end = -1
        if left:
            end = region.find(&newline, 1, self.position, left, False)
        return self.take(region, end + 1 - self.position if end >= 0 else -1)

    def write(self, data):
        cdef Py_buffer source
        cdef Region region
        cdef bytes own
        PyObject_GetBuffer(data, &source, PyBUF_SIMPLE)
        try:
            region = self.enter_to_write()
            if self.position > region.length or source.len > region.length - self.position:
                raise ValueError(f"data out of range: expected at most "
                                 f"{max(region.length - self.position, 0)} bytes, "
                                 f"found {source.len}")
            if region.contains(source.buf):
                own = PyBytes_FromStringAndSize(<const char *>source.buf, source.len)
                region.write(self.position, PyBytes_AS_STRING(own), source.len)
            else:
                region.write(self.position, source.buf, source.len)
            self.position += source.len
            return source.len
        finally:
            PyBuffer_Release(&source)

    def write_byte(self, byte):
        if self.position >= len(self):
            raise ValueError("write byte out of range: expected a position before the end")
        self.set_byte(self.position, byte)
        self.position += 1

    def seek(self, pos, int whence=0):
        cdef Py_ssize_t to = PyNumber_AsSsize_t(pos, OverflowError)
        cdef Py_ssize_t length = len(self)
        if whence == 1:
            to += self.position
        elif whence == 2:
            to += length
        elif whence != 0:
            raise ValueError(f"whence: expected 0, 1 or 2, found {whence}")
        if not 0 <= to <= length:
            raise ValueError(f"seek out of range: expected 0 to {length}, found {to}")
        self.position = to
        return to

    def seekable(self):
        return True

    def tell(self):
        self.enter()
        return self.position

    def move(self, dest, src, count):
        cdef Py_ssize_t to = PyNumber_AsSsize_t(dest, OverflowError)
        cdef Py_ssize_t from_ = PyNumber_AsSsize_t(src, OverflowError)
        cdef Py_ssize_t n = PyNumber_AsSsize_t(count, OverflowError)
        cdef Region region = self.enter_to_write()
        cdef bytes data
        if (to < 0 or from_ < 0 or n < 0 or region.length - to < n
                or region.length - from_ < n):
            raise ValueError(f"source, destination, or count out of range: expected 0 to "
                             f"{region.length}, found {from_}, {to} and {n}")
        if n and shm_region_is_direct(&region.region):
            region.write(to, region.region.base + region.start + from_, n)
        else:
            data = region.bytes_at(from_, n)
            region.write(to, PyBytes_AS_STRING(data), n)


cdef int raise_index(Py_ssize_t length) except -1:
    raise IndexError(f"index out of range: expected one of {length} bytes")


cdef inline Py_ssize_t clip(Py_ssize_t index, Py_ssize_t length) noexcept:
    """As slices count: from the end if negative."""
    if index < 0:
        index += length
    return min(max(index, 0), length)


cdef class ReaderCore:
    """Reads by copies alone, from any number of threads; never gives a view out."""

    cdef Region region
    cdef uint32_t forks
    cdef readonly Py_ssize_t inside
    cdef public object idle  # set by the last reader to leave a closed one
    cdef bint shut
    cdef object __weakref__

    @property
    def closed(self):
        return self.shut

    def _bind(self, Region region not None):
        self.region = region

    def _shut(self):
        """No reader comes in any more; True while some are inside."""
        self.look_at_forks()
        self.shut = True
        return self.inside > 0

    def _unbind(self):
        self.region = None

    cdef Region enter(self):
        cdef Region region = self.region
        if region is not None and not self.shut:
            if region.faulty and not region.changing:
                region.remap(region.length)  # what is gone now may be there again
            region.wait_for_change()
        if self.shut or region is None:
            raise_status(SHM_CLOSED)
        return region

    def __len__(self):
        return self.enter().length

    cdef inline void look_at_forks(self) noexcept:
        if self.forks != forks:
            self.forks = forks
            self.inside = 0

    cdef int copy(self, Region region, void *to, size_t at, size_t length) except -1:
        self.look_at_forks()
        self.inside += 1
        try:
            return region.read(to, at, length)
        finally:
            self.inside -= 1
            if self.shut and self.inside == 0 and self.idle is not None:
                self.idle.set()

    def at(self, index):
        cdef Py_ssize_t i = PyNumber_AsSsize_t(index, IndexError)
        cdef Region region = self.enter()
        cdef uint8_t byte
        if i < 0:
            i += region.length
        if i < 0 or i >= region.length:
            raise_index(region.length)
        self.copy(region, &byte, i, 1)
        return byte

    def read_at(self, n, offset):
        cdef Py_ssize_t count = PyNumber_AsSsize_t(n, OverflowError)
        cdef Py_ssize_t at = PyNumber_AsSsize_t(offset, OverflowError)
        cdef Region region = self.enter()
        cdef bytes data
        if count < 0 or at < 0:
            raise ValueError(f"expected a length and an offset of at least 0, found {count}, {at}")
        count = min(count, max(region.length - at, 0))
        data = PyBytes_FromStringAndSize(NULL, count)
        self.copy(region, PyBytes_AS_STRING(data), at, count)
        return data

    def readinto_at(self, buffer, offset):
        cdef Py_ssize_t at = PyNumber_AsSsize_t(offset, OverflowError)
        cdef Py_ssize_t count
        cdef Py_buffer target
        cdef Region region
        if at < 0:
            raise ValueError(f"offset: expected at least 0, found {at}")
        PyObject_GetBuffer(buffer, &target, PyBUF_WRITABLE)
        try:
            region = self.enter()
            count = min(target.len, max(region.length - at, 0))
            self.copy(region, target.buf, at, count)
            return count
        finally:
            PyBuffer_Release(&target)

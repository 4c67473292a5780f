# Bytes in this process's memory, with a file or nothing behind them.
#
# Whatever may run the caller's code (an index, a buffer, a length) is asked first, and the region
# afterwards: that code may close or resize what it is called from.

cdef extern from "<sys/mman.h>" nogil:
    enum:
        PROT_NONE, PROT_READ, PROT_WRITE, PROT_EXEC
        MAP_SHARED, MAP_PRIVATE, MAP_ANONYMOUS, MAP_HUGETLB
    int madvise(void *, size_t, int)
    int msync(void *, size_t, int)
    int mlock(const void *, size_t)
    int munlock(const void *, size_t)
    int mincore(void *, size_t, unsigned char *)

cdef extern from "<linux/mman.h>" nogil:
    enum:
        MADV_POPULATE_READ, MADV_POPULATE_WRITE

cdef extern from "Python.h":
    enum:
        PY_SSIZE_T_MAX
    int PySlice_Unpack(object, Py_ssize_t *, Py_ssize_t *, Py_ssize_t *) except -1
    Py_ssize_t PySlice_AdjustIndices(Py_ssize_t, Py_ssize_t *, Py_ssize_t *, Py_ssize_t)
    Py_ssize_t as_index "PyNumber_AsSsize_t"(object, void *) except? -1  # NULL: clipped

cdef extern from "<errno.h>":
    enum:
        EHWPOISON

cdef extern from "<unistd.h>" nogil:
    int usleep(unsigned int)

cdef enum:
    A_WHILE = 50  # microseconds between two looks at what other threads do
    LONG_COPY = 1 << 16  # from here on other threads run meanwhile

PROTECT_READ, PROTECT_WRITE, PROTECT_EXECUTE = PROT_READ, PROT_WRITE, PROT_EXEC
SHARED, PRIVATE, ANONYMOUS, HUGE_PAGES = MAP_SHARED, MAP_PRIVATE, MAP_ANONYMOUS, MAP_HUGETLB


def advice_numbers():
    """The advice of this system, by name."""
    cdef const shm_advice *advice = shm_advices
    found = {}
    while advice.name != NULL:
        found[advice.name.decode()] = advice.number
        advice += 1
    return found


def secret_file():
    cdef int fd = shm_secret_file()
    if fd < 0:
        raise_status(SHM_E_OS)
    return fd


def page_size():
    return shm_page_size()


def active_regions():
    return shm_active_regions()


def active_bytes():
    return shm_active_bytes()


def guard_faults():
    if shm_guard_faults() != 0:
        raise_status(SHM_E_OS)


def unguard_faults():
    shm_unguard_faults()


# In a child of fork the threads that were copying are not there any more.
cdef uint32_t forks = 0


def forget_threads():
    """In a child of fork, before anything else."""
    global forks
    forks += 1


cdef class Region:
    """A range of memory: the exporter of every view on it, which keeps it mapped.

    Long copies run without Python's lock.  Who takes memory away waits for them, or leaves it to
    the last of them.
    """

    cdef shm_region region
    cdef size_t start  # of the bytes, in the region: a file's offset need not be on a page
    cdef readonly Py_ssize_t length
    cdef readonly object file  # what is behind it; keeps the descriptor
    cdef Attachment attachment  # the segment whose bytes they are, or None
    cdef readonly Py_ssize_t views, writable_views
    cdef readonly bint viewed  # a pointer without a view may be out, as NumPy keeps them
    cdef readonly bint readable, writable
    cdef uint8_t nothing  # what an empty view points to
    cdef Py_ssize_t copies  # under way without Python's lock
    cdef uint32_t forks  # when they began
    cdef bint changing  # nobody begins anything meanwhile
    cdef bint doomed  # to be emptied by the last copy
    cdef bint orphaned  # to be emptied by the last view
    cdef bint gone  # given up by its handle: nothing is mapped into it any more

    def __init__(self, object file, int fd, uint64_t offset, size_t length, size_t reserve,
                 int protection, int flags, *, size_t page=0, size_t address=0,
                 bint stable=False, bint file_reads=False):
        cdef shm_region_spec spec
        if self.region.base != NULL:
            raise RuntimeError("a region is mapped once")
        memset(&spec, 0, sizeof(spec))
        spec.page = page or shm_page_size()
        self.start = offset % spec.page
        spec.fd, spec.offset = fd, offset - self.start
        spec.length = self.start + length if length else 0
        spec.reserve = self.start + reserve if reserve else 0
        spec.protection, spec.flags, spec.address = protection, flags, <void *>address
        spec.stable, spec.file_reads = stable, file_reads
        self.file, self.length = file, length
        self.set_access(protection)
        if spec.reserve == 0:
            self.region.spec = spec
            self.region.spec.stable = True
        elif shm_region_map(&self.region, &spec) != SHM_OK:
            raise_status(SHM_E_OS)

    def __dealloc__(self):
        shm_region_unmap(&self.region)

    cdef void set_access(self, int protection) noexcept:
        self.readable = protection & (PROT_READ | PROT_WRITE) != 0
        self.writable = protection & PROT_WRITE != 0

    # What goes wrong.

    cdef int raise_fault(self, size_t at) except -1:
        name = None if self.file is None else self.file.name
        raise MappingFault(name, self.region.spec.offset + self.start + at)

    cdef int raise_copy(self, int status, size_t at) except -1:
        cdef uint64_t offset
        if status == SHM_FAULT and shm_region_has_fault(&self.region, &offset):
            self.raise_fault(offset - self.start)
        offset = self.region.spec.offset + self.start + at
        if status == SHM_FAULT and self.region.mixed and (
                self.file is None or offset < <uint64_t>self.file.size()):
            raise PermissionError(EACCES, f"byte {at} is protected")
        if status == SHM_FAULT:
            self.raise_fault(at)
        return raise_status(status)

    cdef inline int check_fault(self) except -1:
        cdef uint64_t offset
        if shm_region_has_fault(&self.region, &offset):
            self.raise_fault(offset - self.start)
        return 0

    # Who copies, and who waits for that.

    cdef inline void look_at_forks(self) noexcept:
        if self.forks != forks:
            self.forks = forks
            self.copies = 0
            self.changing = False

    cdef int wait_for_change(self) except -1:
        """Before bounds are looked at.  From there to a copy Python's lock is not given up."""
        self.look_at_forks()
        while self.changing:
            with nogil:
                usleep(A_WHILE)
            PyErr_CheckSignals()
            self.look_at_forks()
        return 0

    cdef void begin_copy(self) noexcept:
        self.look_at_forks()
        self.copies += 1

    cdef int end_copy(self) except -1:
        self.copies -= 1
        if self.doomed and self.copies == 0:
            self.empty()
        return 0

    cdef int begin_change(self) except -1:
        """No copy is under way until end_change()."""
        if self.gone:
            raise_status(SHM_CLOSED)
        self.look_at_forks()
        if self.changing:
            raise BufferError("another thread is changing it")
        self.changing = True
        try:
            while self.copies:
                with nogil:
                    usleep(A_WHILE)
                PyErr_CheckSignals()
                self.look_at_forks()
            if self.gone:
                raise_status(SHM_CLOSED)
        except BaseException:
            self.changing = False
            raise
        return 0

    cdef void end_change(self) noexcept:
        self.changing = False

    # Copies.

    cdef int read(self, void *to, size_t at, size_t length) except -1:
        """Other threads run meanwhile where it is long, or may have to wait for a disk."""
        cdef size_t done = 0
        cdef int status
        if length == 0:
            return 0
        if length < LONG_COPY and shm_region_is_direct(&self.region):
            status = shm_region_read(&self.region, to, self.start + at, length, &done)
        else:
            self.begin_copy()
            with nogil:
                status = shm_region_read(&self.region, to, self.start + at, length, &done)
            self.end_copy()
        if status != SHM_OK:
            self.raise_copy(status, at + done)
        return 0

    cdef int write(self, size_t at, const void *from_, size_t length) except -1:
        cdef size_t done = 0
        cdef int status
        if length == 0:
            return 0
        if length < LONG_COPY and shm_region_is_direct(&self.region):
            status = shm_region_write(&self.region, self.start + at, from_, length, &done)
        else:
            self.begin_copy()
            with nogil:
                status = shm_region_write(&self.region, self.start + at, from_, length, &done)
            self.end_copy()
        if status != SHM_OK:
            self.raise_copy(status, at + done)
        return 0

    cdef bint contains(self, const void *address) noexcept:
        """Whether a copy from there could be one over itself."""
        return (self.region.base != NULL and <const uint8_t *>address >= self.region.base
                and <const uint8_t *>address < self.region.base + self.region.spec.reserve)

    cdef bytes bytes_at(self, size_t at, size_t length):
        cdef bytes data = PyBytes_FromStringAndSize(NULL, length)
        self.read(PyBytes_AS_STRING(data), at, length)
        return data

    cdef Py_ssize_t find(self, const void *what, size_t size, size_t at, size_t length,
                         bint last) except -2:
        """Where it stands, -1 if nowhere."""
        cdef shm_search search
        cdef size_t found = 0
        cdef int status
        if self.length == 0:
            return 0 if size == 0 else -1
        search.offset, search.length = self.start + at, length
        search.what, search.size, search.last = what, size, last
        self.begin_copy()
        with nogil:
            status = shm_region_find(&self.region, &search, &found)
        self.end_copy()
        if status != SHM_OK:
            self.raise_copy(status, at + found)
        return -1 if found > length else <Py_ssize_t>(at + found)

    # Views.

    def __getbuffer__(self, Py_buffer *view, int flags):
        cdef void *address = &self.nothing
        if not self.readable or self.region.mixed:
            raise BufferError("expected one protection, with reading, for a view: found none, or "
                              "several; protect() the whole first")
        if flags & PyBUF_WRITABLE and not self.writable:
            raise BufferError("it is read-only")
        if self.region.watch != NULL and shm_faults_are_guarded() and shm_guard_faults() != 0:
            raise_status(SHM_E_OS)  # somebody may have put another handler over ours
        if self.length:
            address = self.region.base + self.start
        PyBuffer_FillInfo(view, self, address, self.length, not self.writable, flags)
        self.views += 1
        self.writable_views += not view.readonly
        self.viewed = True

    def __releasebuffer__(self, Py_buffer *view):
        self.views -= 1
        self.writable_views -= not view.readonly
        if self.orphaned and self.views == 0:
            self.empty()

    # The range, for the Python half; offsets and lengths have been checked.

    @property
    def address(self):
        return <size_t>self.region.base + self.start if self.region.base != NULL else 0

    @property
    def offset(self):
        return self.region.spec.offset + self.start

    @property
    def page(self):
        return self.region.spec.page

    @property
    def mixed(self):
        return self.region.mixed

    @property
    def reserve(self):
        """Bytes that it can have in place."""
        return self.region.spec.reserve - self.start if self.region.spec.reserve else 0

    @property
    def faulty(self):
        """Whether the guard had to put zeros into it."""
        cdef uint64_t offset
        return bool(shm_region_has_fault(&self.region, &offset))

    def resize(self, size_t length):
        """In place, up to the reserve."""
        self.begin_change()
        try:
            if shm_region_resize(&self.region, self.start + length if length else 0) != SHM_OK:
                raise_status(SHM_E_OS)
            self.length = length
        finally:
            self.end_change()

    def remap(self, size_t length):
        """From the file once more; faults are forgotten."""
        self.begin_change()
        try:
            if shm_region_remap(&self.region, self.start + length if length else 0) != SHM_OK:
                raise_status(SHM_E_OS)
            self.length = length
        finally:
            self.end_change()

    def fill(self, bytes data not None):
        """For a new one that nobody else knows."""
        self.write(0, PyBytes_AS_STRING(data), min(len(data), self.length))

    def empty(self):
        """Zeros instead of it, as soon as nobody copies; the addresses stay taken."""
        self.look_at_forks()
        self.gone = True
        self.doomed = self.copies > 0
        if self.region.base != NULL and self.attachment is None and not self.doomed:
            if shm_region_empty(&self.region) != SHM_OK:
                raise_status(SHM_E_OS)
            self.file = None

    def unmap(self):
        """For one that nobody can point into: the addresses go, too, as soon as nobody copies.
        OSError, and nothing has changed, if the system has no mapping left to split one with."""
        self.look_at_forks()
        if self.copies == 0 and shm_region_unmap(&self.region) != SHM_OK:
            raise_status(SHM_E_OS)
        self.gone = True

    def protect(self, size_t at, size_t length, int protection):
        cdef shm_pages pages
        if self.region.base == NULL:
            return self.set_access(protection)
        pages = shm_region_pages(&self.region, self.start + at, length, False)
        if shm_region_protect(&self.region, pages, protection) != SHM_OK:
            raise_status(SHM_E_OS)
        if not self.region.mixed:
            self.set_access(protection)
        elif protection & PROT_WRITE:  # each access asks the kernel, page by page
            self.readable = self.writable = True
        elif protection & PROT_READ:
            self.readable = True

    cdef int ask(self, int (*call)(void *, size_t, int) noexcept nogil, size_t at, size_t length,
                 int what, bint inward) except -1:
        cdef shm_pages pages
        cdef int failed
        if self.region.base == NULL:
            return 0
        pages = shm_region_pages(&self.region, self.start + at, length, inward)
        if pages.length == 0:
            return 0
        with nogil:
            failed = call(pages.start, pages.length, what)
        if failed:
            raise_status(SHM_E_OS)
        return 0

    def advise(self, size_t at, size_t length, int advice, bint inward):
        self.ask(madvise, at, length, advice, inward)

    def flush(self, size_t at, size_t length, int how):
        self.ask(msync, at, length, how, False)

    def lock(self, size_t at, size_t length):
        self.ask(lock_pages, at, length, 0, False)

    def unlock(self, size_t at, size_t length):
        self.ask(unlock_pages, at, length, 0, False)

    def prefault(self, size_t at, size_t length, bint write):
        cdef size_t page
        cdef uint8_t byte
        try:
            self.ask(madvise, at, length, MADV_POPULATE_WRITE if write else MADV_POPULATE_READ,
                     False)
        except OSError as error:
            if error.errno not in (EFAULT, EHWPOISON):
                raise
            for page in range(at, at + length, shm_page_size()):
                self.read(&byte, page, 1)  # raises for the page that it is
            self.raise_fault(at)

    def resident(self, size_t at, size_t length):
        """One byte for each page of the system: 1 where it is in memory."""
        cdef shm_pages pages
        cdef bytes found
        cdef unsigned char *vector
        cdef Py_ssize_t i
        if self.region.base == NULL:
            return b""
        pages = shm_region_pages(&self.region, self.start + at, length, False)
        found = PyBytes_FromStringAndSize(NULL, pages.length // shm_page_size())
        vector = <unsigned char *>PyBytes_AS_STRING(found)
        if pages.length and mincore(pages.start, pages.length, vector) != 0:
            raise_status(SHM_E_OS)
        for i in range(len(found)):
            vector[i] &= 1
        return found


def segment_region(Attachment attachment not None, object file, bint writable, bint stable):
    """The user's bytes of a segment."""
    cdef Region self = Region.__new__(Region)
    cdef shm_region_spec spec
    memset(&spec, 0, sizeof(spec))
    spec.page = shm_page_size()
    spec.fd, spec.offset = attachment.fd, attachment.segment.facts.data_offset
    spec.length = spec.reserve = attachment.segment.facts.data_size
    spec.stable, spec.file_reads = stable, True
    spec.protection, spec.flags = PROT_READ | PROT_WRITE, MAP_SHARED
    if shm_region_borrow(&self.region, shm_data(&attachment.segment), &spec) != SHM_OK:
        raise_status(SHM_E_OS)
    self.attachment, self.file = attachment, file
    self.length = attachment.segment.facts.payload_size
    self.set_access(PROT_READ | (PROT_WRITE if writable else 0))
    return self


cdef int lock_pages(void *start, size_t length, int unused) noexcept nogil:
    return mlock(start, length)


cdef int unlock_pages(void *start, size_t length, int unused) noexcept nogil:
    return munlock(start, length)


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

# A range of this process's memory, with a file or nothing behind it.

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
        while True:
            self.look_at_forks()
            if self.gone:
                raise_status(SHM_CLOSED)
            if self.changing:
                raise BufferError("another thread is changing it")
            if self.copies == 0:
                self.changing = True
                return 0
            self.changing = True  # no copy begins while we wait for those under way
            with nogil:
                usleep(A_WHILE)
            self.changing = False  # a signal's handler may use the mapping
            PyErr_CheckSignals()

    cdef void end_change(self) noexcept:
        self.changing = False

    # Copies.

    cdef inline int check_range(self, size_t at, size_t length) except -1:
        """Again for each step of a call that takes several: others may run in between."""
        if self.gone:
            raise_status(SHM_CLOSED)
        if at + length > <size_t>self.length:
            raise IndexError("the mapping has become shorter meanwhile")
        return 0

    cdef int read(self, void *to, size_t at, size_t length) except -1:
        """Other threads run meanwhile where it is long, or may have to wait for a disk."""
        cdef size_t done = 0
        cdef int status
        if length == 0:
            return 0
        self.check_range(at, length)
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
        self.check_range(at, length)
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

    cdef int prepare_view(self) except -1:
        """Somebody may have put another handler over the guard's."""
        if self.region.watch != NULL and shm_faults_are_guarded() and shm_guard_faults() != 0:
            raise_status(SHM_E_OS)
        return 0

    def __getbuffer__(self, Py_buffer *view, int flags):
        cdef void *address = &self.nothing
        if not self.readable or self.region.mixed:
            raise BufferError("expected one protection, with reading, for a view: found none, or "
                              "several; protect() the whole first")
        if flags & PyBUF_WRITABLE and not self.writable:
            raise BufferError("it is read-only")
        self.prepare_view()
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
        """In place, up to the reserve.  A view may have been made since the caller looked, and its file
        is about to end before it: from here on there is none, until the change is over."""
        self.begin_change()
        try:
            if length < <size_t>self.length and self.views:
                raise BufferError(f"expected no view for this resize, found {self.views}")
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

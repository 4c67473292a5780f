# This process's attachment to a segment: the mapping and the participant slot.


def file_size(uint32_t kind, uint32_t slots, uint64_t body_size, uint64_t payload_size):
    """Bytes of the whole file for such a segment."""
    cdef shm_spec spec
    memset(&spec, 0, sizeof(spec))
    spec.slot_count, spec.body_size, spec.payload_size = slots, body_size, payload_size
    return shm_file_size(&spec)


def format_segment(int fd, uint32_t kind, uint32_t flags, uint32_t slots, uint64_t body_size,
                   uint64_t payload_size, bytes cookie, bytes semaphores,
                   uint32_t semaphore_count):
    """Writes the header into a zeroed file of file_size() bytes."""
    cdef shm_spec spec
    memset(&spec, 0, sizeof(spec))
    spec.kind, spec.flags, spec.slot_count = kind, flags, slots
    spec.body_size, spec.payload_size = body_size, payload_size
    spec.semaphore_count = semaphore_count
    if len(cookie) != sizeof(spec.cookie) or len(semaphores) >= sizeof(spec.semaphores):
        raise ValueError("cookie or semaphore prefix of the wrong length")
    memcpy(spec.cookie, <const char *>cookie, sizeof(spec.cookie))
    memcpy(spec.semaphores, <const char *>semaphores, len(semaphores))
    if shm_format(fd, &spec) != SHM_OK:
        raise_status(SHM_E_OS)


def check_header(int fd, str shown):
    """The kind of the segment behind `fd`; raises what is wrong with its header."""
    cdef shm_header found
    cdef int status = shm_check_header(fd, &found)
    if status != SHM_OK:
        raise_header_error(status, &found, shown)
    return found.kind


def lock_door(int fd):
    """A descriptor that holds the segment's door until it is closed, or None while another does."""
    cdef int door = shm_lock_door(fd)
    if door >= 0:
        return door
    try:
        raise_status(SHM_E_OS)
    except BlockingIOError:
        return None


def unlock_door(int door):
    """Opens the door and closes the descriptor."""
    shm_unlock_door(door)


cdef str text_of(const char *text, size_t most):
    cdef bytes raw = text[:most]
    return raw.split(b"\0", 1)[0].decode("utf-8", "replace")


cdef class Attachment:
    """A mapped segment.  It is unmapped when the last reference to it goes, views included."""

    cdef shm_segment segment
    cdef readonly int fd
    cdef public object on_rejoin
    cdef readonly str shown
    cdef bint left
    cdef object __weakref__

    def __cinit__(self, int fd, str shown):
        cdef int status = shm_segment_open(&self.segment, fd)
        self.fd = -1
        self.shown = shown
        if status != SHM_OK:
            raise_header_error(status, &self.segment.facts, shown)
        self.fd = fd

    def __dealloc__(self):
        cdef c_bool last
        if self.fd >= 0:
            shm_leave(&self.segment, NULL, &last)
        shm_segment_close(&self.segment)

    @property
    def kind(self):
        return self.segment.facts.kind

    @property
    def flags(self):
        return self.segment.facts.flags

    @property
    def cookie(self):
        cdef const char *cookie = <const char *>self.segment.facts.cookie
        return cookie[:16]

    @property
    def slots(self):
        return self.segment.facts.slot_count

    @property
    def payload_size(self):
        return self.segment.facts.payload_size

    @property
    def semaphores(self):
        prefix = text_of(self.segment.facts.semaphores, sizeof(self.segment.facts.semaphores))
        return [f"{prefix}{i}" for i in range(self.segment.facts.semaphore_count)]

    @property
    def joined(self):
        return shm_me(&self.segment) != 0

    def join(self, bint linked):
        """Takes a slot; False while another process is in the door."""
        cdef int status = shm_join(&self.segment, linked)
        if status == SHM_NO_SLOT:
            raise BusyError(f"{self.shown}: all {self.segment.facts.slot_count} participant slots "
                            "are taken by living processes")
        if status == SHM_OTHER_BOOT:
            raise BrokenError(f"{self.shown}: expected a file that was closed before the machine "
                              "went down, found one that was in use: what it holds may be half "
                              "written; recover(name) declares it usable")
        if status == SHM_GONE:
            raise NameGone(f"{self.shown}: the name was removed while it was being attached")
        if status != SHM_OK and status != SHM_LOCKED:
            raise_status(status)
        return status == SHM_OK

    def leave(self, path):
        """Gives the slot back for good; True if nobody else is left."""
        cdef c_bool last = False
        self.left = True
        cdef bytes encoded
        if path is None:
            shm_leave(&self.segment, NULL, &last)
        else:
            encoded = path.encode("utf-8", "surrogateescape")
            shm_leave(&self.segment, encoded, &last)
        return last

    def ensure_joined(self):
        if shm_me(&self.segment) == 0:
            self.rejoin()

    cdef int rejoin(self) except -1:
        """In a child of fork, on its first use of what it inherited."""
        import time
        if self.left:
            raise_status(SHM_CLOSED)
        while not self.join(False):
            time.sleep(0.001)
            PyErr_CheckSignals()
        if self.on_rejoin is not None:
            self.on_rejoin()
        return 0

    def adopt(self):
        """Declares a segment of another boot to be of this one; BusyError if somebody uses it."""
        cdef int status = shm_adopt(&self.segment)
        if status == SHM_BUSY:
            raise BusyError("a living process uses it")
        if status != SHM_OK:
            raise_status(status)

    def clear_body(self):
        """Zeros, for a body that is to be made anew."""
        memset(shm_body(&self.segment), 0, self.segment.facts.body_size)

    def clear_cells(self, uint32_t cell, uint32_t cells):
        """Zeros, for an object that is to be made there."""
        memset(shm_body(&self.segment) + <uint64_t>cell * CELL_SIZE, 0,
               <uint64_t>cells * CELL_SIZE)

    def anybody_alive(self):
        """Whether any process, this one included, holds a slot."""
        cdef uint32_t slot
        for slot in range(self.segment.facts.slot_count):
            if shm_slot_held(&self.segment, slot):
                return True
        return False

    def describe(self, uint32_t identity):
        """(pid, command) of a participant, as long as its slot has not been used again."""
        cdef shm_slot *slot = &self.segment.slots[
            shm_slot_of(identity) % self.segment.facts.slot_count]
        if load_relaxed32(&slot.identity) & SHM_IDENTITY != identity:
            return None
        return slot.pid, text_of(slot.command, sizeof(slot.command))

    def participants(self):
        """(slot, pid, alive, me, joined, command) of each slot that was not given back."""
        cdef uint32_t index, identity
        cdef shm_slot *slot
        found = []
        for index in range(self.segment.facts.slot_count):
            slot = &self.segment.slots[index]
            identity = load_acquire32(&slot.identity)
            if identity == 0 or identity & SHM_SLOT_FREE:
                continue
            found.append((index, slot.pid, bool(shm_alive(&self.segment, identity)),
                          identity == shm_me(&self.segment), slot.joined,
                          text_of(slot.command, sizeof(slot.command))))
        return found


cdef int raise_header_error(int status, const shm_header *found, str shown) except -1:
    if status == SHM_BAD_MAGIC:
        raise LayoutError(f"{shown}: expected a shmipc segment, found none of its magic")
    if status == SHM_BAD_VERSION:
        raise LayoutError(f"{shown}: expected layout version {SHM_LAYOUT_VERSION}, "
                          f"found {found.layout_version}")
    if status == SHM_BAD_ABI:
        raise LayoutError(f"{shown}: expected the binary interface {<uint32_t>SHM_ABI:#x} of this "
                          f"machine, found {found.abi:#x}")
    if status == SHM_BAD_CHECKSUM:
        raise CorruptError(f"{shown}: the header's checksum {found.checksum:#x} does not fit it")
    if status == SHM_BAD_LAYOUT:
        raise CorruptError(f"{shown}: expected {found.file_size} bytes as its header says, "
                           "found a file or offsets that do not agree")
    return raise_status(status)

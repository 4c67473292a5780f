# Bytes with a description: what a Value, Array or SharedArray stands on.


cdef uint64_t cells_of(uint64_t size) noexcept:
    return (size + CELL_SIZE - 1) // CELL_SIZE


def description_cells(bytes text not None):
    """Cells that a description with this text takes."""
    return cells_of(sizeof(shm_description) + <uint64_t>len(text))


cdef int check_cells(Attachment attachment, uint64_t cell, uint64_t size) except -1:
    """That so many bytes from the cell on lie in the body."""
    cdef uint64_t body = attachment.segment.facts.body_size
    if cell > body // CELL_SIZE or size > body - cell * CELL_SIZE:
        raise CorruptError(f"{attachment.shown}: expected {size} bytes from cell {cell} on, found "
                           f"{body} bytes in all")
    return 0


def write_description(Attachment attachment not None, uint32_t cell, uint32_t kind, uint64_t size,
                      uint32_t lock, bytes lock_cookie not None, uint32_t lock_cell,
                      bytes text not None):
    """Before anybody else can see it; into cells that are zero."""
    cdef shm_description *here
    cdef uint64_t length = len(text)
    if len(lock_cookie) not in (0, 16):
        raise ValueError("a cookie of the wrong length")
    check_cells(attachment, cell, sizeof(shm_description) + length)
    here = <shm_description *>(shm_body(&attachment.segment) + <uint64_t>cell * CELL_SIZE)
    here.kind, here.size, here.lock, here.lock_cell = kind, size, lock, lock_cell
    memcpy(here.lock_cookie, PyBytes_AS_STRING(lock_cookie), len(lock_cookie))
    here.text_size = <uint32_t>length
    memcpy(here + 1, PyBytes_AS_STRING(text), length)


def read_description(Attachment attachment not None, uint32_t cell):
    """(kind, size, lock, lock_cookie, lock_cell, text), of which nothing is certain but that the
    text and the lock's own cell lie in the body."""
    cdef shm_description found
    cdef uint8_t *here = shm_body(&attachment.segment) + <uint64_t>cell * CELL_SIZE
    cdef uint64_t whole
    check_cells(attachment, cell, sizeof(found))
    memcpy(&found, here, sizeof(found))
    whole = sizeof(found) + <uint64_t>found.text_size
    check_cells(attachment, cell, whole)
    if found.lock == SHM_OWN_LOCK:
        check_cells(attachment, cell + cells_of(whole), sizeof(shm_lock))
    text = (<const char *>here)[sizeof(found):whole]
    cookie = (<const char *>found.lock_cookie)[:16]
    return found.kind, found.size, found.lock, cookie, found.lock_cell, text


cdef class MemoryCore:
    """The bytes: every view on them is a view on this, which keeps it, and so keeps them mapped and
    its cells its own."""

    cdef Attachment attachment
    cdef Region region  # the data area, if the segment is its own
    cdef uint8_t *start
    cdef readonly Py_ssize_t size
    cdef readonly bint writable
    cdef bint closed_flag
    cdef uint8_t nothing  # what an empty view points to

    def _bind_cells(self, Attachment attachment not None, uint32_t cell, uint64_t size,
                    bint writable):
        """Puts it over the segment's body from cell number `cell` on."""
        check_cells(attachment, cell, size)
        self.attachment, self.size, self.writable = attachment, size, writable
        self.start = shm_body(&attachment.segment) + <uint64_t>cell * CELL_SIZE

    def _bind_region(self, Region region not None):
        self.region, self.attachment = region, region.attachment
        self.size, self.writable = region.length, region.writable
        self.start = region.region.base

    def _unbind(self):
        """No new views; True: the hold may go now."""
        self.closed_flag = True
        return True

    def _is_idle(self):
        """Nobody is in the middle of anything: views keep it from being asked."""
        return True

    @property
    def address(self):
        return <size_t>(self.start if self.size else &self.nothing)

    def __getbuffer__(self, Py_buffer *view, int flags):
        if self.closed_flag or self.start == NULL:
            raise_status(SHM_CLOSED)
        if self.region is not None:
            self.region.prepare_view()
        PyBuffer_FillInfo(view, self, <void *><size_t>self.address, self.size,
                          not self.writable, flags)

# The ring: messages of bytes.

cdef enum:
    BATCH = 64


cdef class RingBase:
    """What rings of bytes and queues of objects have in common."""

    cdef Attachment attachment
    cdef shm_ring ring
    cdef int away  # threads that are in the core without Python's lock,
    cdef uint32_t away_as  # counted as this participant: a child of fork has none of them
    cdef list left  # (tag, bytes) of messages taken by a get_many that was broken off
    cdef uint32_t left_to  # by which participant

    def __cinit__(self, *args, **kwargs):
        self.ring.closed = 1

    def __dealloc__(self):
        for i in range(SHM_RING_PLACES):
            shm_place_close(&self.ring.places[i])

    def _bind(self, Attachment attachment not None, uint32_t spin):
        cdef int i
        cdef int status = shm_ring_open(&self.ring, &attachment.segment, spin)
        self.ring.closed = 1
        if status != SHM_OK:
            raise CorruptError("the ring's control block does not fit its segment")
        for i, name in enumerate(attachment.semaphores[:SHM_RING_PLACES]):
            if shm_place_open(&self.ring.places[i], name.encode()) != SHM_OK:
                raise BrokenError(f"the semaphore {name} of this ring is gone")
        self.attachment = attachment
        self.ring.closed = 0

    def _unbind(self):
        """Ends this process's waits on the handle, and gives back the sides it holds.  True: its
        hold may go now; otherwise the last of its threads to come back calls _let_go()."""
        if self.ring.closed:
            return False
        self.go_away()
        shm_ring_release_sides(&self.ring, True, True)
        shm_ring_close(&self.ring)
        self.away -= 1
        if self.away == 0:
            self.attachment = None
        return self.away == 0

    cdef void go_away(self) noexcept:
        cdef uint32_t me = shm_me(&self.attachment.segment)
        if self.away_as != me:
            self.away, self.away_as = 0, me
        self.away += 1

    cdef int come_back(self) except -1:
        """What a thread copies is reserved by, or lent to, this process: so its slot, and the
        mapping, are given back by the last thread to come back to a closed handle."""
        self.away -= 1
        if self.away == 0 and self.ring.closed:
            self.attachment = None
            self._let_go()
        return 0

    # --- waiting ----------------------------------------------------------------------------

    cdef int resolve(self, int status, c_bool producers, shm_wait *wait,
                     c_bool *in_time) except -1:
        """After an answer that is neither success nor "wait for the other side": makes the next
        try worthwhile, or raises.  The answer is whether to claim the lock as one who slept."""
        cdef int waited
        cdef Attachment attachment
        if status == SHM_LOCKED:
            self.go_away()
            with nogil:
                waited = shm_ring_wait_side(&self.ring, producers, wait)
            self.come_back()
            PyErr_CheckSignals()
            if waited == SHM_CLOSED:
                raise_status(waited)
            in_time[0] = waited != SHM_TIMED_OUT
            return 1
        if status == SHM_UNREGISTERED:
            attachment = self.attachment
            attachment.rejoin()
        elif status == SHM_BUSY:
            raise BusyError(f"another living process is the only "
                            f"{'producer' if producers else 'consumer'} of this ring")
        else:
            raise_status(status)
        return 0

    cdef int wait_for_space(self, uint64_t length, c_bool waited, shm_wait *wait,
                            c_bool *in_time) except -1:
        cdef int status
        self.go_away()
        with nogil:
            status = shm_ring_wait_space(&self.ring, length, waited, wait)
        self.come_back()
        PyErr_CheckSignals()
        if status == SHM_CLOSED:
            raise_status(status)
        in_time[0] = status != SHM_TIMED_OUT
        return 0

    cdef int wait_for_messages(self, shm_wait *wait, c_bool *in_time) except -1:
        cdef int status
        self.go_away()
        with nogil:
            status = shm_ring_wait_messages(&self.ring, wait)
        self.come_back()
        PyErr_CheckSignals()
        if status == SHM_CLOSED:
            raise_status(status)
        in_time[0] = status != SHM_TIMED_OUT
        return 0

    # --- putting ----------------------------------------------------------------------------

    cdef int try_put_once(self, const shm_message *message, c_bool retry) except -1:
        """One attempt.  A long message is claimed, filled with other threads running, committed."""
        cdef uint32_t done
        cdef shm_loan loan
        cdef int status
        if self.ring.closed:
            raise_status(SHM_CLOSED)
        if not shm_ring_is_long(&self.ring, message.length):
            return shm_ring_put(&self.ring, message, 1, &done, retry)
        status = shm_ring_reserve(&self.ring, message, &loan, retry)
        if status != SHM_OK:
            return status
        if message.length > SHM_LONG:
            self.go_away()
            with nogil:
                memcpy(loan.bytes, message.bytes, message.length)
            status = shm_ring_commit(&self.ring, &loan)
            self.come_back()
        else:
            memcpy(loan.bytes, message.bytes, message.length)
            status = shm_ring_commit(&self.ring, &loan)
        if status != SHM_OK:  # closed meanwhile: nobody will see it
            raise_status(SHM_CLOSED)
        return SHM_OK

    cdef int check_length(self, uint64_t length) except -1:
        if length > shm_ring_max_message(&self.ring):
            raise ValueError(f"expected a message of at most {shm_ring_max_message(&self.ring)} "
                             f"bytes, found {length}: give the ring a larger capacity")
        return 0

    cdef int put_message(self, const shm_message *message, bint block, double seconds,
                         bint wait_for_bytes) except -1:
        """SHM_OK, or SHM_FULL/SHM_FULL_ITEMS when the time is over; without `wait_for_bytes`
        SHM_FULL at once."""
        cdef shm_wait wait
        cdef c_bool started = False, in_time = True
        cdef int retry = 0, status
        if self.ring.closed:
            raise_status(SHM_CLOSED)
        self.check_length(message.length)
        while True:
            status = self.try_put_once(message, retry)
            if status == SHM_OK:
                if started and not self.ring.closed:
                    shm_ring_pass_on_space(&self.ring)
                return status
            if not started:
                shm_wait_init(&wait, deadline_after(seconds if block else A_MOMENT),
                              SHM_RECHECK_SOON)
                started = True
            if status == SHM_LOCKED and not in_time:
                return SHM_FULL  # its holder lives but does not run, or not long enough
            if status != SHM_FULL and status != SHM_FULL_ITEMS:
                retry = self.resolve(status, True, &wait, &in_time)
                continue
            if not block or not in_time or (status == SHM_FULL and not wait_for_bytes):
                return status
            retry = 0
            if self.ring.producing.spin == 0 or not shm_ring_spin_space(
                    &self.ring, message.length, SPIN_WITH_GIL):
                self.wait_for_space(message.length, message.waited, &wait, &in_time)

    # --- taking -----------------------------------------------------------------------------

    cdef bytes copy_out(self, const shm_loan *loan):
        """The message as bytes; the loan stays.  Called with `away` held up."""
        cdef bytes data
        if loan.length <= SHM_LONG:
            return PyBytes_FromStringAndSize(<char *>loan.bytes, loan.length)
        data = PyBytes_FromStringAndSize(NULL, loan.length)
        cdef char *target = PyBytes_AS_STRING(data)
        with nogil:
            memcpy(target, loan.bytes, loan.length)
        return data

    cdef bytes redeem(self, shm_loan *loan):
        """Copies out and finishes; a message that cannot be copied is not lost."""
        cdef bytes data
        self.go_away()
        try:
            data = self.copy_out(loan)
            shm_ring_finish(&self.ring, loan, 1)
        except BaseException:
            shm_ring_give_back(&self.ring, loan, 1)
            raise
        finally:
            self.come_back()
        return data

    cdef int take(self, shm_loan *loans, uint32_t most, uint32_t *count, uint8_t *scratch,
                  bint block, double seconds) except -1:
        """SHM_OK with messages, or SHM_EMPTY when the time is over."""
        cdef shm_wait wait
        cdef c_bool started = False, in_time = True
        cdef int retry = 0, status
        while True:
            if self.ring.closed:
                raise_status(SHM_CLOSED)
            status = shm_ring_take(&self.ring, loans, most, count, scratch, retry)
            if status == SHM_OK:
                return status
            if not started:
                shm_wait_init(&wait, deadline_after(seconds if block else A_MOMENT),
                              SHM_RECHECK_MIN)
                started = True
            if status == SHM_LOCKED and not in_time:
                return SHM_EMPTY
            if status != SHM_EMPTY:
                retry = self.resolve(status, False, &wait, &in_time)
                continue
            if not block or not in_time:
                return status
            retry = 0
            if self.ring.consuming.spin == 0 or not shm_ring_spin_messages(
                    &self.ring, SPIN_WITH_GIL):
                self.wait_for_messages(&wait, &in_time)

    cdef int take_chunk(self, list found, uint32_t most, bint block, double seconds) except -1:
        """Appends (tag, bytes) of what is there, up to `most`; waits for the first one only."""
        cdef shm_loan loans[BATCH]
        cdef uint8_t scratch[SHM_SHORT]
        cdef uint32_t count = 0, i
        cdef list copies = []
        cdef int status = self.take(loans, min(most, <uint32_t>BATCH), &count, scratch, block,
                                    seconds)
        if status != SHM_OK:
            return status
        self.go_away()
        try:
            # Only bytes until the messages are finished: an object that the collector tracks
            # could run it, and with it other threads, while they are untouched in the ring.
            for i in range(count):
                copies.append(self.copy_out(&loans[i]))
        finally:
            if copies:
                shm_ring_finish(&self.ring, loans, <uint32_t>len(copies))
            shm_ring_give_back(&self.ring, loans + len(copies), count - <uint32_t>len(copies))
            for i in range(<uint32_t>len(copies)):
                found.append((loans[i].tag, copies[i]))
            self.come_back()
        return SHM_OK

    cdef list pick_up(self):
        """What an earlier get_many of this process had taken when it was broken off."""
        cdef list left = self.left
        self.left = None
        if left is None or self.ring.closed or self.left_to != shm_me(&self.attachment.segment):
            return []
        return left

    cdef void leave_for_later(self, list found) noexcept:
        if found and not self.ring.closed:
            self.left = found
            self.left_to = shm_me(&self.attachment.segment)

    cdef list gather(self, object most, object least, object timeout, object linger):
        """(tag, bytes) of up to `most` messages."""
        cdef Py_ssize_t limit = most, wanted = least
        cdef double patience = seconds_of(timeout), longer = seconds_of(linger)
        cdef uint64_t deadline, lingering = 0
        cdef list found
        if not 1 <= wanted <= limit:
            raise ValueError(f"expected 1 <= min <= max, found min={wanted}, max={limit}")
        deadline = deadline_after(patience)
        found = self.pick_up()
        try:
            while len(found) < limit:
                if len(found) >= wanted and lingering == 0:
                    lingering = deadline_after(longer)
                left = seconds_until(lingering if lingering else deadline)
                if self.take_chunk(found, limit - len(found), left > 0, left) != SHM_OK:
                    break
        except ShutDown:
            if not found:
                raise
        except BaseException:
            self.leave_for_later(found)
            raise
        if not found:
            raise Empty("no message in the ring")
        if len(found) > limit:
            self.leave_for_later(found[limit:])
        return found[:limit]

    cdef list gather_all(self):
        """(tag, bytes) of all that is there."""
        cdef list found = self.pick_up()
        try:
            while self.take_chunk(found, BATCH, False, 0.0) == SHM_OK:
                pass
        except ShutDown:
            pass
        except BaseException:
            self.leave_for_later(found)
            raise
        return found

    def __iter__(self):
        return self

    # --- the rest ---------------------------------------------------------------------------

    def shutdown(self, bint immediate=False):
        cdef shm_wait wait
        cdef c_bool in_time
        cdef int retry = 0, status
        shm_wait_init(&wait, SHM_NEVER, SHM_RECHECK_MIN)
        while True:
            if self.ring.closed:
                raise_status(SHM_CLOSED)
            status = shm_ring_shut_down(&self.ring, SHM_STOPPED if immediate else SHM_DRAINING,
                                        retry)
            if status == SHM_OK:
                return
            retry = self.resolve(status, True, &wait, &in_time)

    def release_producer(self):
        if self.ring.closed:
            raise_status(SHM_CLOSED)
        shm_ring_release_sides(&self.ring, True, False)

    def release_consumer(self):
        if self.ring.closed:
            raise_status(SHM_CLOSED)
        shm_ring_release_sides(&self.ring, False, True)

    def __len__(self):
        if self.ring.closed:
            raise_status(SHM_CLOSED)
        return shm_ring_depth(&self.ring)

    def __bool__(self):
        return True

    @property
    def capacity(self):
        return shm_ring_capacity(&self.ring)

    @property
    def max_message(self):
        return shm_ring_max_message(&self.ring)

    def _counts(self):
        cdef uint64_t put, taken, used
        if self.ring.closed:
            raise_status(SHM_CLOSED)
        shm_ring_counts(&self.ring, &put, &taken, &used)
        return put, taken, used

    def _waits(self):
        """(spins, parks, wakes) of this handle as producer and as consumer."""
        cdef shm_patience *p = &self.ring.producing
        cdef shm_patience *c = &self.ring.consuming
        return (p.spins, p.parks, p.wakes), (c.spins, c.parks, c.wakes)


cdef class RingCore(RingBase):
    """Messages of bytes between processes."""

    cdef int put_buffer(self, object data, bint block, double seconds) except -1:
        cdef shm_message message
        cdef Py_buffer view
        message.tag = 0
        message.waited = False
        if PyBytes_CheckExact(data):
            message.bytes = PyBytes_AS_STRING(data)
            message.length = PyBytes_GET_SIZE(data)
            return self.put_message(&message, block, seconds, True)
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            message.bytes = view.buf
            message.length = view.len
            return self.put_message(&message, block, seconds, True)
        finally:
            PyBuffer_Release(&view)

    def put(self, data, bint block=True, timeout=None):
        cdef shm_message message
        if PyBytes_CheckExact(data) and timeout is None and not self.ring.closed:
            message.bytes = PyBytes_AS_STRING(data)
            message.length = PyBytes_GET_SIZE(data)
            message.tag = 0
            message.waited = False
            if (message.length <= shm_ring_max_message(&self.ring)
                    and self.try_put_once(&message, False) == SHM_OK):
                return
        if self.put_buffer(data, block, seconds_of(timeout)) != SHM_OK:
            raise Full("no room in the ring")

    def try_put(self, data):
        return self.put_buffer(data, False, 0.0) == SHM_OK

    def put_many(self, messages, bint block=True, timeout=None):
        cdef list items = list(messages)
        cdef Py_ssize_t done = 0
        cdef uint64_t deadline = deadline_after(seconds_of(timeout))
        if self.ring.closed:
            raise_status(SHM_CLOSED)
        while done < len(items):
            done += self.put_chunk(items, done, block, deadline)
        return done

    cdef Py_ssize_t put_chunk(self, list items, Py_ssize_t first, bint block,
                              uint64_t deadline) except -1:
        """Puts at least one of items[first:], as far as they go in one commit."""
        cdef shm_message messages[BATCH]
        cdef Py_buffer views[BATCH]
        cdef uint32_t n = 0, held = 0, done = 0, i
        cdef bint is_long = False
        try:
            while n < BATCH and first + n < len(items) and not is_long:
                item = items[first + n]
                messages[n].tag = 0
                messages[n].waited = False
                if PyBytes_CheckExact(item):
                    messages[n].bytes = PyBytes_AS_STRING(item)
                    messages[n].length = PyBytes_GET_SIZE(item)
                else:
                    PyObject_GetBuffer(item, &views[held], PyBUF_SIMPLE)
                    held += 1
                    messages[n].bytes = views[held - 1].buf
                    messages[n].length = views[held - 1].len
                is_long = shm_ring_is_long(&self.ring, messages[n].length)
                if not (is_long and n):
                    n += 1
            if self.ring.closed:
                raise_status(SHM_CLOSED)
            if (not shm_ring_is_long(&self.ring, messages[0].length)
                    and shm_ring_put(&self.ring, messages, n, &done, False) == SHM_OK):
                return done
            if self.put_message(messages, block, seconds_until(deadline), True) != SHM_OK:
                full = Full(f"no room in the ring for all: {first} of {len(items)} were put")
                full.count = first
                raise full
            return 1
        finally:
            for i in range(held):
                PyBuffer_Release(&views[i])

    def get(self, bint block=True, timeout=None):
        cdef shm_loan loan
        cdef uint8_t scratch[SHM_SHORT]
        cdef uint32_t count
        if (timeout is None and not self.ring.closed and self.left is None
                and shm_ring_take(&self.ring, &loan, 1, &count, scratch, False) == SHM_OK):
            return self.redeem(&loan)
        if self.left is not None:
            return self.gather(1, 1, timeout, 0.0)[0][1]
        if self.take(&loan, 1, &count, scratch, block, seconds_of(timeout)) != SHM_OK:
            raise Empty("no message in the ring")
        return self.redeem(&loan)

    def try_get(self):
        cdef shm_loan loan
        cdef uint8_t scratch[SHM_SHORT]
        cdef uint32_t count
        if self.left is not None:
            return self.get(False)
        if self.take(&loan, 1, &count, scratch, False, 0.0) != SHM_OK:
            return None
        return self.redeem(&loan)

    def get_many(self, max, min=1, timeout=None, linger=0.0):
        return [data for _, data in self.gather(max, min, timeout, linger)]

    def drain(self):
        return [data for _, data in self.gather_all()]

    def __next__(self):
        try:
            return self.get()
        except ShutDown:
            raise StopIteration from None


def ring_body_size(uint32_t slots):
    return shm_ring_body_size(slots)


def ring_parameters(Attachment attachment not None):
    """(capacity, max_items, flags, codec) as the creator gave them."""
    cdef shm_ring ring
    if shm_ring_open(&ring, &attachment.segment, 0) != SHM_OK:
        raise CorruptError("the ring's control block does not fit its segment")
    return (ring.control.capacity, ring.control.max_items, ring.control.flags,
            text_of(ring.control.codec, sizeof(ring.control.codec)))


def format_ring(Attachment attachment not None, uint64_t capacity, uint64_t max_items,
                uint32_t flags, bytes codec):
    """Writes the control block of a new ring, before anybody else can see it."""
    cdef shm_ring_spec spec
    memset(&spec, 0, sizeof(spec))
    spec.capacity, spec.max_items, spec.flags = capacity, max_items, flags
    if len(codec) >= sizeof(spec.codec):
        raise ValueError("codec name too long")
    memcpy(spec.codec, <const char *>codec, len(codec))
    shm_ring_format(&attachment.segment, &spec)

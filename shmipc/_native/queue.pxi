# The queue's hot half: bytes go straight into the ring, everything else through Python.

cdef enum:
    TAG_BYTES = 0
    TAG_ENCODED = 1


cdef class QueueCore(RingBase):
    """Objects over a ring.  `waiting` is set while messages wait in this process."""

    cdef public bint waiting
    cdef public object _dumps
    cdef public object _loads

    @classmethod
    def __class_getitem__(cls, item):
        return GenericAlias(cls, item)


    cdef bytes encode(self, object obj):
        """A codec of the user's may answer anything."""
        cdef object data = self._dumps(obj)
        if not PyBytes_CheckExact(data):
            raise TypeError(f"codec: expected dumps() to give bytes, "
                            f"found {type(data).__name__}")
        return data

    def put(self, obj, bint block=True, timeout=None):
        cdef shm_message message
        cdef bytes data
        if PyBytes_CheckExact(obj):
            data = obj
            message.tag = TAG_BYTES
        else:
            data = self.encode(obj)
            message.tag = TAG_ENCODED
        if timeout is None and not self.waiting and not self.ring.closed:
            message.bytes = PyBytes_AS_STRING(data)
            message.length = PyBytes_GET_SIZE(data)
            message.waited = False
            if (message.length <= shm_ring_max_message(&self.ring)
                    and self.try_put_once(&message, False) == SHM_OK):
                return
        self._put_slowly(message.tag, data, block, seconds_of(timeout))

    def put_many(self, objects, bint block=True, timeout=None):
        cdef shm_message messages[BATCH]
        cdef uint64_t deadline = deadline_after(seconds_of(timeout))
        cdef list encoded = [(TAG_BYTES, obj) if PyBytes_CheckExact(obj)
                             else (TAG_ENCODED, self.encode(obj)) for obj in objects]
        cdef Py_ssize_t done = 0
        cdef uint32_t n, put
        cdef bytes data
        try:
            while done < len(encoded):
                n = 0
                while n < BATCH and done + n < len(encoded):
                    tag, data = encoded[done + n]
                    if shm_ring_is_long(&self.ring, PyBytes_GET_SIZE(data)):
                        break
                    messages[n].bytes = PyBytes_AS_STRING(data)
                    messages[n].length = PyBytes_GET_SIZE(data)
                    messages[n].tag = tag
                    messages[n].waited = False
                    n += 1
                if (n and not self.waiting and not self.ring.closed
                        and shm_ring_put(&self.ring, messages, n, &put, False) == SHM_OK):
                    done += put
                else:
                    tag, data = encoded[done]
                    self._put_slowly(tag, data, block, seconds_until(deadline))
                    done += 1
        except Full as full:
            full.count = done
            raise
        return done

    def _offer(self, uint8_t tag, bytes data not None, bint block, double seconds,
               bint wait_for_bytes):
        """Into the ring, waiting for items if `block`, for bytes if `wait_for_bytes` too.
        False: there are not enough bytes.  Full: not enough items."""
        cdef shm_message message
        cdef int status
        message.bytes = PyBytes_AS_STRING(data)
        message.length = PyBytes_GET_SIZE(data)
        message.tag = tag
        message.waited = False
        status = self.put_message(&message, block, seconds, wait_for_bytes)
        if status == SHM_FULL_ITEMS:
            raise Full("the queue is full")
        return status == SHM_OK

    def _flush(self, line):
        """Moves messages that have been waiting from the left of `line`, a deque of (tag, bytes),
        into the ring, as far as they have room."""
        cdef shm_message messages[BATCH]
        cdef uint32_t n = 1, done, i
        cdef bytes data
        while line:
            n = min(<uint32_t>BATCH, <uint32_t>len(line))
            for i in range(n):
                tag, data = line[i]
                if shm_ring_is_long(&self.ring, PyBytes_GET_SIZE(data)) and i:
                    n = i
                    break
                messages[i].bytes = PyBytes_AS_STRING(data)
                messages[i].length = PyBytes_GET_SIZE(data)
                messages[i].tag = tag
                messages[i].waited = True
            if (self.ring.closed or shm_ring_is_long(&self.ring, messages[0].length)
                    or shm_ring_put(&self.ring, messages, n, &done, False) != SHM_OK):
                if self.put_message(messages, False, 0.0, False) != SHM_OK:
                    return
                done = 1
            for i in range(done):
                line.popleft()

    def _wait_for_room(self, uint64_t length, double seconds, bint waited):
        """Whether there is room for so long a message, after at most so many seconds."""
        cdef shm_wait wait
        cdef c_bool in_time
        if self.ring.closed:
            raise_status(SHM_CLOSED)
        shm_wait_init(&wait, deadline_after(seconds), SHM_RECHECK_SOON)
        self.wait_for_space(length, waited, &wait, &in_time)
        return bool(in_time)

    def _check_length(self, uint64_t length):
        self.check_length(length)

    def _await(self, bint block, double seconds):
        """Counts one more message as waiting in this process; Full if it would be too many."""
        cdef shm_wait wait
        cdef c_bool in_time = True
        cdef int retry = 0, status
        shm_wait_init(&wait, deadline_after(seconds if block else A_MOMENT), SHM_RECHECK_SOON)
        while True:
            if self.ring.closed:
                raise_status(SHM_CLOSED)
            status = shm_ring_await(&self.ring, retry)
            if status == SHM_OK:
                return
            if status == SHM_LOCKED and not in_time:
                raise Full("the producers' side is held by a process that does not run")
            if status != SHM_FULL_ITEMS:
                retry = self.resolve(status, True, &wait, &in_time)
            elif not block or not in_time:
                raise Full("the queue is full")
            else:
                retry = 0
                self.wait_for_space(0, False, &wait, &in_time)

    def _unwait(self, uint32_t count):
        if not self.ring.closed:
            shm_ring_unwait(&self.ring, count)

    cdef object decode(self, uint8_t tag, bytes data):
        if tag == TAG_BYTES:
            return data
        if tag == TAG_ENCODED:
            return self._loads(data)
        raise CorruptError(f"a message has tag {tag}, which no queue writes")

    def get(self, bint block=True, timeout=None):
        cdef shm_loan loan
        cdef uint8_t scratch[SHM_SHORT]
        cdef uint32_t count
        if self.left is not None:
            tag, data = self.gather(1, 1, timeout, 0.0)[0]
            return self.decode(tag, data)
        if (timeout is not None or self.ring.closed
                or shm_ring_take(&self.ring, &loan, 1, &count, scratch, False) != SHM_OK):
            if self.take(&loan, 1, &count, scratch, block, seconds_of(timeout)) != SHM_OK:
                raise Empty("the queue is empty")
        return self.decode(loan.tag, self.redeem(&loan))

    cdef list decode_all(self, list found):
        """What cannot be decoded raises, and is gone; the rest is there for the next get."""
        cdef list objects = []
        cdef Py_ssize_t i
        for i in range(len(found)):
            try:
                objects.append(self.decode(found[i][0], found[i][1]))
            except BaseException:
                self.leave_for_later(found[:i] + found[i + 1:])
                raise
        return objects

    def get_many(self, max, min=1, timeout=None, linger=0.0):
        return self.decode_all(self.gather(max, min, timeout, linger))

    def drain(self):
        return self.decode_all(self.gather_all())

    def __next__(self):
        try:
            return self.get()
        except ShutDown:
            raise StopIteration from None

    def _task_done(self):
        cdef int status = SHM_UNREGISTERED
        cdef Attachment attachment
        while status == SHM_UNREGISTERED:
            if self.ring.closed:
                raise_status(SHM_CLOSED)
            status = shm_ring_task_done(&self.ring)
            if status == SHM_UNREGISTERED:
                attachment = self.attachment
                attachment.rejoin()
        if status == SHM_NOT_HELD:
            raise ValueError("task_done() called too many times")

    def _join(self):
        cdef shm_wait wait
        cdef int status
        shm_wait_init(&wait, SHM_NEVER, SHM_RECHECK_MIN)
        while True:
            if self.ring.closed:
                raise_status(SHM_CLOSED)
            if shm_ring_unfinished(&self.ring) <= 0:
                return
            self.go_away()
            with nogil:
                status = shm_ring_wait_idle(&self.ring, &wait)
            self.come_back()
            PyErr_CheckSignals()

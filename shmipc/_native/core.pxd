# What the binding uses of the C core; the headers say what it means.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "<stdbool.h>":
    ctypedef bint c_bool "bool"


cdef extern from "status.h" nogil:
    enum:
        SHM_OK, SHM_INHERITED, SHM_EMPTY, SHM_FULL, SHM_FULL_ITEMS, SHM_LOCKED, SHM_SHUT_DOWN
        SHM_CLOSED, SHM_TIMED_OUT, SHM_INTERRUPTED, SHM_UNREGISTERED, SHM_NO_SLOT, SHM_GONE
        SHM_OTHER_BOOT, SHM_BUSY, SHM_TOO_LARGE, SHM_NOT_HELD, SHM_BAD_MAGIC, SHM_BAD_VERSION
        SHM_BAD_ABI, SHM_BAD_CHECKSUM, SHM_BAD_LAYOUT, SHM_FAULT, SHM_CORRUPT, SHM_E_OS


cdef extern from "atomics.h" nogil:
    ctypedef uint32_t shm_atomic32
    ctypedef uint64_t shm_atomic64
    uint32_t load_relaxed32 "load_relaxed"(const shm_atomic32 *)
    uint64_t load_relaxed64 "load_relaxed"(const shm_atomic64 *)
    void store_relaxed32 "store_relaxed"(shm_atomic32 *, uint32_t)
    void store_relaxed64 "store_relaxed"(shm_atomic64 *, uint64_t)
    uint32_t load_acquire32 "load_acquire"(const shm_atomic32 *)


cdef extern from "layout.h" nogil:
    enum:
        SHM_KIND_SEGMENT, SHM_KIND_ARENA, SHM_KIND_LOCK, SHM_KIND_RLOCK, SHM_KIND_SEMAPHORE_LOCK
        SHM_KIND_RING, SHM_KIND_QUEUE, SHM_KIND_JOINABLE_QUEUE, SHM_KIND_SIMPLE_QUEUE
        SHM_UNLINK_LAST, SHM_IDENTITY, SHM_SLOT_FREE, SHM_SLEEPERS, SHM_LAYOUT_VERSION, SHM_ABI
        SHM_ONE_PRODUCER, SHM_ONE_CONSUMER, SHM_SEMAPHORES, SHM_COUNT_TASKS
        SHM_DRAINING, SHM_STOPPED, SHM_GRANULE

    struct shm_header:
        uint8_t magic[8]
        uint32_t layout_version, abi, kind, flags
        uint64_t file_size
        uint32_t slot_count
        uint64_t body_size, data_offset, data_size, payload_size, created
        uint8_t cookie[16]
        uint32_t creator_pid
        char creator_command[64]
        char semaphores[32]
        uint32_t semaphore_count, checksum

    struct shm_slot:
        shm_atomic32 identity
        uint32_t pid
        uint64_t pid_namespace, start_time, joined
        char command[96]

    struct shm_lock:
        shm_atomic32 word
        shm_atomic64 thread
        shm_atomic32 depth
        shm_atomic32 heir_of

    struct shm_ring_control:
        uint64_t capacity, max_items
        uint32_t flags
        char codec[16]

    uint32_t shm_slot_of(uint32_t identity)


cdef extern from "segment.h" nogil:
    struct shm_segment:
        int fd
        shm_header facts
        shm_slot *slots
        uint8_t *base

    struct shm_spec:
        uint32_t kind, flags, slot_count, semaphore_count
        uint64_t body_size, payload_size
        uint8_t cookie[16]
        char semaphores[32]

    uint64_t shm_file_size(const shm_spec *)
    int shm_format(int fd, const shm_spec *)
    int shm_segment_open(shm_segment *, int fd)
    void shm_segment_close(shm_segment *)
    int shm_check_header(int fd, shm_header *)
    uint8_t *shm_body(const shm_segment *)
    uint8_t *shm_data(const shm_segment *)
    uint32_t shm_me(const shm_segment *)


cdef extern from "participants.h" nogil:
    int shm_lock_door(int fd)
    void shm_unlock_door(int door)
    int shm_adopt(shm_segment *)
    int shm_join(shm_segment *, c_bool linked)
    void shm_leave(shm_segment *, const char *path, c_bool *last)
    c_bool shm_alive(const shm_segment *, uint32_t identity)
    c_bool shm_slot_held(const shm_segment *, uint32_t slot)


cdef extern from "waiting.h" nogil:
    const uint64_t SHM_NEVER
    const uint32_t SHM_SPIN_ADAPTIVE
    const uint64_t SHM_RECHECK_MIN, SHM_RECHECK_SOON

    struct shm_place:
        void *semaphore

    struct shm_patience:
        uint32_t spin
        uint64_t spins, parks, wakes
        int *closed

    struct shm_wait:
        uint64_t deadline

    uint64_t shm_now()
    c_bool shm_unpark(shm_atomic32 *, uint32_t count, const shm_place *)
    int shm_place_open(shm_place *, const char *name)
    void shm_place_close(shm_place *)
    void shm_patience_init(shm_patience *, uint32_t spin)
    void shm_wait_init(shm_wait *, uint64_t deadline, uint64_t interval)


cdef extern from "lock.h" nogil:
    int shm_lock_try(const shm_segment *, shm_lock *, uint32_t claim)
    int shm_lock_release(shm_lock *, const shm_place *)
    int shm_lock_wait(const shm_segment *, shm_lock *, const shm_place *, shm_patience *,
                      shm_wait *)
    c_bool shm_lock_spin(const shm_lock *, uint32_t ns)


cdef extern from "ring.h" nogil:
    enum:
        SHM_SHORT, SHM_LONG, SHM_RING_PLACES

    struct shm_ring_spec:
        uint64_t capacity, max_items
        uint32_t flags
        char codec[16]

    struct shm_ring:
        shm_ring_control *control
        uint64_t max_items
        uint32_t flags
        int closed
        shm_place places[5]
        shm_patience producing, consuming

    struct shm_message:
        const void *bytes
        uint64_t length
        uint8_t tag
        c_bool waited

    struct shm_loan:
        uint8_t *bytes
        uint32_t length
        uint8_t tag

    uint64_t shm_ring_body_size(uint32_t slot_count)
    void shm_ring_format(shm_segment *, const shm_ring_spec *)
    int shm_ring_open(shm_ring *, shm_segment *, uint32_t spin)
    uint64_t shm_ring_capacity(const shm_ring *)
    uint64_t shm_ring_max_message(const shm_ring *)
    c_bool shm_ring_is_long(const shm_ring *, uint64_t length)
    int shm_ring_put(shm_ring *, const shm_message *, uint32_t count, uint32_t *done, c_bool retry)
    int shm_ring_reserve(shm_ring *, const shm_message *, shm_loan *, c_bool retry)
    int shm_ring_commit(shm_ring *, const shm_loan *)
    int shm_ring_await(shm_ring *, c_bool retry)
    void shm_ring_unwait(shm_ring *, uint32_t count)
    int shm_ring_take(shm_ring *, shm_loan *, uint32_t most, uint32_t *count,
                      uint8_t *scratch, c_bool retry)
    void shm_ring_finish(shm_ring *, const shm_loan *, uint32_t count)
    void shm_ring_give_back(shm_ring *, const shm_loan *, uint32_t count)
    int shm_ring_task_done(shm_ring *)
    int64_t shm_ring_unfinished(const shm_ring *)
    uint64_t shm_ring_depth(const shm_ring *)
    void shm_ring_counts(const shm_ring *, uint64_t *put, uint64_t *taken, uint64_t *bytes_used)
    int shm_ring_shut_down(shm_ring *, int how, c_bool retry)
    void shm_ring_release_sides(shm_ring *, c_bool producer, c_bool consumer)
    void shm_ring_close(shm_ring *)
    int shm_ring_wait_messages(shm_ring *, shm_wait *)
    int shm_ring_wait_space(shm_ring *, uint64_t length, c_bool waited, shm_wait *)
    void shm_ring_pass_on_space(shm_ring *)
    int shm_ring_wait_side(shm_ring *, c_bool producers, shm_wait *)
    int shm_ring_wait_idle(shm_ring *, shm_wait *)
    c_bool shm_ring_spin_messages(shm_ring *, uint32_t ns)
    c_bool shm_ring_spin_space(shm_ring *, uint64_t length, uint32_t ns)


cdef extern from "mapping.h" nogil:
    int shm_secret_file()


cdef extern from "faults.h" nogil:
    struct shm_watch
    int shm_guard_faults()
    void shm_unguard_faults()
    c_bool shm_faults_are_guarded()


cdef extern from "region.h" nogil:
    struct shm_region_spec:
        int fd
        uint64_t offset
        size_t length, reserve, page
        int protection, flags
        void *address
        c_bool stable, file_reads

    struct shm_region:
        uint8_t *base
        shm_region_spec spec
        shm_watch *watch
        c_bool mixed

    struct shm_pages:
        uint8_t *start
        size_t length

    struct shm_search:
        size_t offset, length
        const void *what
        size_t size
        c_bool last

    size_t shm_page_size()
    int shm_region_map(shm_region *, const shm_region_spec *)
    int shm_region_borrow(shm_region *, uint8_t *, const shm_region_spec *)
    int shm_region_resize(shm_region *, size_t)
    int shm_region_remap(shm_region *, size_t)
    int shm_region_empty(shm_region *)
    int shm_region_unmap(shm_region *)
    shm_pages shm_region_pages(const shm_region *, size_t, size_t, c_bool)
    int shm_region_protect(shm_region *, shm_pages, int)
    int shm_region_read(const shm_region *, void *, size_t, size_t, size_t *)
    int shm_region_write(const shm_region *, size_t, const void *, size_t, size_t *)
    int shm_region_find(const shm_region *, const shm_search *, size_t *)
    c_bool shm_region_is_direct(const shm_region *)
    c_bool shm_region_has_fault(const shm_region *, uint64_t *)
    uint64_t shm_active_regions()
    uint64_t shm_active_bytes()


cdef extern from "advice.h" nogil:
    struct shm_advice:
        const char *name
        int number
    const shm_advice shm_advices[1]

/* A condition: threads that wait, each in a place of its own, until they are notified.
 *
 *   who waits                                   who notifies
 *   takes a place: AWAKE, with a ticket         finds the AWAKE or ASLEEP place with the oldest
 *   releases the user's lock                    ticket whose process lives
 *   spins; then AWAKE -> ASLEEP, and sleeps     makes it NOTIFIED, by compare-and-swap; wakes who
 *     while the word is that                      was ASLEEP
 *   takes the lock again
 *   gives the place back; was it NOTIFIED?
 *
 * Everything here but the sleeping happens under the user's lock, but nothing relies on it: each step
 * is one compare-and-swap of one word.  A place is the only record of a wait, so one whose process
 * is dead waits no longer, and is used again.  One that dies NOTIFIED had not come back from its
 * wait: whoever comes across it (a sleeper that looks again, who notifies next) makes that place his
 * own first, and passes the notification on.  Should he die in the middle, he leaves what he found.
 *
 * So none is lost, but a death may wake one too many: a second one, in the middle; or because those
 * who waited with the dead one are gone, and who has come since is woken in their stead.  It is as with
 * any condition: who comes back looks whether it holds.
 *
 * Two tell each other apart by place and identity, and threads of one process by the place alone:
 * only its own thread gives a living one's place back.
 *
 * Edge G: who was notified sees what was done before. */
#ifndef SHMIPC_CONDITION_H
#define SHMIPC_CONDITION_H

#include "participants.h"
#include "process.h"
#include "waiting.h"

/* Takes a place.  SHM_NO_PLACE if all are taken by the living. */
int shm_condition_enter(const struct shm_segment *segment, struct shm_condition *condition,
                        uint32_t *place);

/* Notifies up to `count`, those who came first. */
void shm_condition_notify(const struct shm_segment *segment, struct shm_condition *condition,
                          uint32_t count);

/* Whether the one in this place was notified. */
bool shm_condition_is_notified(const struct shm_condition *condition, uint32_t place);

/* Waits until he is, sleeping once at the most: SHM_OK when he is, or it is worth a look; else
 * SHM_TIMED_OUT, SHM_INTERRUPTED, SHM_CLOSED.  A notification that a dead one was given may be taken
 * in the course, and with it that one's place, so `*place` changes. */
int shm_condition_wait(const struct shm_segment *segment, struct shm_condition *condition,
                       uint32_t *place, struct shm_patience *patience, struct shm_wait *wait);

bool shm_condition_spin(const struct shm_condition *condition, uint32_t place, uint32_t ns);

/* Gives the place back: whether he was notified. */
bool shm_condition_leave(struct shm_condition *condition, uint32_t place);

/* The same for one who will not act on it: another is notified in his stead.  Nothing, if this process
 * has left the segment meanwhile: then the place is a dead one's, or already somebody else's. */
void shm_condition_give_up(const struct shm_segment *segment, struct shm_condition *condition,
                           uint32_t place);

/* How many wait and are not notified. */
uint32_t shm_condition_waiting(const struct shm_segment *segment,
                               const struct shm_condition *condition);

/* Wakes all sleepers for a look, on the handle's closing. */
void shm_condition_wake_all(struct shm_condition *condition);

#endif

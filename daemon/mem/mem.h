/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mem.h - the page manager: spaces, pages, holds, the prefix index.
 *
 * Pure C on one thread: no loop, no sockets, no protobuf, no clock of its
 * own. net/ calls down with plain arrays; mem/ tells upward only through
 * struct mem_ops. Anything a client can cause returns an error; -EAGAIN means
 * that a segment is on its way (or a device thread busy) and that
 * mem_ops.room will be called when it is worth trying again.
 *
 * Pages move FREE -> OPEN -> SEALED -> CACHED -> FREE (README has the whole
 * diagram). A client has `holds` on pages: alloc, match, reference and claim
 * add one each, release takes one away. An OPEN page has one holder, its
 * writer. A SEALED page with no holds left is CACHED when a block of the
 * index points at it, else FREE.
 */
#ifndef DAEMON_MEM_MEM_H
#define DAEMON_MEM_MEM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "kvd/geometry.h"
#include "proto/name.h"
#include "proto/shm.h"

struct dev;
struct dev_segment;
struct mem;
struct mem_client;
struct mem_space;

enum page_state {
	PAGE_FREE = 0,
	PAGE_OPEN,
	PAGE_SEALED,
	PAGE_CACHED,
	PAGE_DEMOTED,
	PAGE_QUARANTINED,
	PAGE_REVOKED,
	PAGE_NR_STATES
};

enum mem_change_kind {
	MEM_BLOCK_STORED = 0,	/* it has come into the index; or it was there,
				 * and has pages of other classes now */
	MEM_BLOCK_REMOVED,	/* none of its pages is there any more */
	MEM_SPACE_GONE		/* the space is; nobody watches it now */
};

struct mem_change {
	enum mem_change_kind kind;
	const struct name *name;
	/* STORED alone: */
	const struct name *parent;
	const struct name *extra;
	const uint32_t *tokens;	/* page_tokens of them */
	uint32_t depth;
	uint32_t classes;	/* bit i: it has a page of class i */
};

struct mem_ops {
	/*
	 * Room was made, or will not come: retry allocations that were
	 * refused with -EAGAIN, -ENOSPC or -EDQUOT. Called last, so it may
	 * call mem/ again.
	 */
	void (*room)(void *ctx);
	/*
	 * A descriptor that a successor needs (table, segments): keep it
	 * outside this process. mem/ still owns @fd. May be NULL.
	 */
	void (*keep_fd)(void *ctx, const char *name, int fd);
	void (*drop_fd)(void *ctx, const char *name);
	/* Ask @client for its free stock; must not call mem/. May be NULL. */
	void (*recall)(void *ctx, struct mem_client *client);
	/*
	 * What has become of a space that @watch was set for. Called amid
	 * changes, pages by the hundred: it must not call mem/, nor wait. May
	 * be NULL where no space is watched.
	 */
	void (*changed)(void *ctx, void *watch, const struct mem_change *what);
	/*
	 * There is work that nobody waits for: call mem_trim() soon, and
	 * again until it says that there is none. Told once until then; must
	 * not call mem/. May be NULL.
	 */
	void (*work)(void *ctx);
	/* elastic.h; must not call mem/. May be NULL. */
	void (*revoked)(void *ctx, struct mem_client *client, uint32_t segment);
};

/* Bytes of free room: water.h says of what. All 0: none. */
struct mem_marks {
	uint64_t min;		/* half of low */
	uint64_t low;
	uint64_t high;
};

struct mem_config {
	uint64_t pool_bytes;
	uint64_t pool_max;	/* elastic.h; 0: pool_bytes */
	bool on_demand;		/* it grows to that when there is no room */
	uint64_t tier_bytes;	/* tiers.h: as much will be kept behind it */
	uint64_t segment_bytes;	/* multiple of DEV_GRANULE; 0: chosen */
	uint64_t max_pages;	/* entries of the page table; 0: chosen */
	uint32_t max_spaces;	/* 0: 256 */
	const char *policy;	/* which cached pages go first: one of
				 * policy.h; NULL or "": the default */
	struct mem_marks marks;	/* low and high, min follows */
	bool marks_bounded;	/* of few pages at most, or none: water.h */
};

/* A descriptor handed back by a service manager. */
struct mem_fd {
	const char *name;
	int fd;
};

/**
 * mem_new() - a pool on @dev, empty or as a predecessor left it
 * @cfg:	sizes
 * @ops:	told to the caller; kept
 * @ctx:	for @ops
 * @dev:	device; must outlive the mem
 * @fds:	what the service manager kept, names as given to keep_fd;
 *		those used are owned by mem afterwards (fd set to -1), those
 *		not (unknown, of another version, broken) are left alone, and
 *		drop_fd is called for the names among them that are mem's
 * @nr_fds:	how many
 * @note:	one line on what was restored, or why nothing was
 * @ret:	the pool
 *
 * Restoring trusts only identity entries whose sequence word is whole;
 * everything restored is unclaimed until mem_claim() or mem_grace_end().
 * Blocks the caller (start-up only). Return: 0, -ENOMEM, -EINVAL, -EIO.
 */
int mem_new(const struct mem_config *cfg, const struct mem_ops *ops, void *ctx,
	    struct dev *dev, struct mem_fd *fds, size_t nr_fds, char *note,
	    size_t note_bytes, struct mem **ret);

/* Other marks from here on, as @marks and marks_bounded of the mem_config. */
void mem_set_marks(struct mem *m, const struct mem_marks *marks, bool bounded);

/*
 * Frees what is in this process: clients, spaces, segments. Nothing is given
 * back: what clients held stays theirs for a successor to restore and for
 * them to claim. Blocks. NULL is fine.
 */
void mem_free(struct mem *m);

/* Changes when pages did not survive. Random, never 0. */
uint64_t mem_epoch(const struct mem *m);

/* Restarts that kept pages. */
uint32_t mem_restarts(const struct mem *m);

/* Restored pages still wait for their owners; nothing is reclaimed. */
bool mem_in_grace(const struct mem *m);

/*
 * Releases what nobody claimed: sealed pages become CACHED, open ones of a
 * writer that @alive() says is gone become FREE, others QUARANTINED until
 * mem_reap_writer(). A bounded step, the rest by mem_trim().
 */
void mem_grace_end(struct mem *m,
		   bool (*alive)(pid_t pid, uint64_t start_time));

/*
 * About once a second: a device that had no memory is asked again when
 * somebody waits, who waits learns of what became free meanwhile, and what is
 * cached above a tenant's limits goes. May call ops.room.
 */
void mem_tick(struct mem *m);

/* ---- tenants ---- */

/*
 * What a tenant is promised and what it may have, in bytes of its pages that
 * are not FREE. At or below min nothing cached of it is given up for another
 * tenant, nor so much that it would fall below. Above high its own cached
 * pages go first, and what it holds besides is slowed, mem_client_delay_ms().
 * max it never has more than. min <= high <= max; all mins fit in the pool.
 */
struct mem_limits {
	uint64_t min_bytes;
	uint64_t high_bytes;	/* 0: none */
	uint64_t max_bytes;	/* 0: none but the pool's */
};

/**
 * mem_tenant_set() - the limits of tenant @name, from here on
 *
 * Kept by name: a tenant that is not there yet, or was forgotten, has them
 * when it comes. Of a tenant above them what is cached goes, at once a part
 * and the rest by mem_trim(). May call ops.room. Return: 0; -EINVAL a bad
 * name, or not min <= high <= max; -ERANGE more is promised to all tenants
 * than the pool has; -ENOMEM. Nothing has changed after an error.
 */
int mem_tenant_set(struct mem *m, const char *name,
		   const struct mem_limits *limits);

/*
 * A bounded step of what is to be done and nobody waits for: giving back what
 * dead clients had and what nobody has claimed, giving up what tenants have
 * cached above their limits, which were lowered or are known since a restart,
 * and what is missing to a watermark. Return: there is more, and it is worth
 * going on at once. mem_tick() makes a step too, for what was released above
 * limits. May call ops.room.
 */
bool mem_trim(struct mem *m);

#define MEM_MAX_DELAY_MS 100u

/**
 * mem_client_delay_ms() - by how much to slow who has just allocated
 *
 * With e what its tenant holds (cached pages not counted) above high:
 * MEM_MAX_DELAY_MS * (4 e / high)^2, rounded up; all of it from a quarter
 * above high on. 0 at or below high, or without one. The square, as Linux has
 * it for memory.high: hardly felt just above, a wall soon after.
 */
uint32_t mem_client_delay_ms(const struct mem_client *c);

/* ---- clients ---- */

struct mem_client_id {
	pid_t pid;
	uint64_t start_time;	/* /proc/PID/stat field 22 */
	uid_t uid;
	uint32_t series;	/* of its connections, each of which takes over
				 * what the one before it had; 0: none */
};

/**
 * mem_client_new() - a connection; @tenant is the daemon's choice, at most
 * 31 bytes. @key is the tenant's name key (32 bytes), remembered on first use
 * of the tenant. @owner is the caller's own, given back by
 * mem_client_owner().
 * Return: 0; -EINVAL bad tenant name; -ENOSPC too many tenants; -ENOMEM.
 */
int mem_client_new(struct mem *m, const struct mem_client_id *id,
		   const char *tenant, const uint8_t key[NAME_KEY_BYTES],
		   void *owner, struct mem_client **ret);
void *mem_client_owner(const struct mem_client *c);
/* Its owner goes, @c stays: from here on it has none. Return: false: it need
 * not stay, the next of its series has claimed all it knew. */
bool mem_client_disown(struct mem_client *c);

/* What is known of a process when its connection ends. */
enum mem_end {
	MEM_END_UNKNOWN = 0,	/* it may still write to open pages */
	MEM_END_DEAD,		/* socket and pidfd both say so */
	MEM_END_BYE,		/* it said that it writes no more; it lives */
};

/**
 * mem_client_free() - give back all that a client held
 * @c:		client, gone after the call; NULL is fine
 * @end:	unless UNKNOWN, open pages become FREE, else QUARANTINED.
 *		Unless DEAD, mem_reap_writer() must be called when it is,
 *		whatever it had: until then its tenant's segments count as
 *		mapped.
 *
 * Its owner is not named any more. A bounded step: of much the rest is given
 * back by mem_trim(), and an allocation that needs it is told -EAGAIN.
 */
void mem_client_free(struct mem_client *c, enum mem_end end);

/* The process is dead: its quarantined pages become FREE, and then its tenant's
 * segments are mapped by one less. A bounded step, the rest by mem_trim(). */
void mem_reap_writer(struct mem *m, pid_t pid, uint64_t start_time);

/* ---- spaces ---- */

struct mem_space_key {
	uint8_t model[32];
	struct kvd_geometry geometry;
	uint32_t tp_rank;
	uint32_t tp_size;
};

struct mem_class {
	uint32_t group;
	uint32_t k_format;
	uint32_t v_format;
	uint32_t page_bytes;
};

/*
 * A group of layers has one class of pages or two: class g, of group g, is
 * where tokens are appended; where that is not already the geometry's own
 * formats, a class after those is (kernels/page.h); and one more of pages that
 * were demoted (demote.h), which cannot be allocated.
 */
#define MEM_MAX_CLASSES (KVD_MAX_GROUPS * 2)

_Static_assert(MEM_MAX_CLASSES == SHM_MAX_CLASSES, "a block has all classes");

/**
 * mem_space_open() - the space of this key in the client's tenant
 *
 * Found or made. Clients keep a space alive; the last to go leaves it with
 * its cached pages, until its record is needed for another. Opened twice, it
 * is to be closed twice. May call ops.room. Return: 0; -EINVAL bad geometry,
 * with *ret_why a static text; -ENOSPC too many spaces, or of the tenant;
 * -EAGAIN its record is another's, of whose pages a step went, so again;
 * -ENOMEM.
 */
int mem_space_open(struct mem_client *c, const struct mem_space_key *key,
		   struct mem_space **ret, const char **ret_why);
void mem_space_close(struct mem_client *c, struct mem_space *s);

/* How many records of spaces one tenant may have; 0, as at first: a quarter of
 * all. Those that it has already stay. */
void mem_space_limit(struct mem *m, uint32_t nr);

/* The space @id that @c has open, or NULL. */
struct mem_space *mem_space_get(struct mem_client *c, uint32_t id);
uint32_t mem_space_id(const struct mem_space *s);
uint64_t mem_space_fingerprint(const struct mem_space *s);
const uint8_t *mem_space_name_key(const struct mem_space *s);
/* Class number i of the space, or NULL past the last. */
const struct mem_class *mem_space_class(const struct mem_space *s, uint32_t i);
/* Descriptors to dup and send, O_RDONLY; owned by the space. */
int mem_space_index_fd(const struct mem_space *s);
int mem_space_stats_fd(const struct mem_space *s);
/*
 * Who is told what becomes of its blocks, by mem_ops.changed; NULL: nobody.
 * Told in the order in which it happens: who begins with what the index has
 * now, and does all that is told, has what it will have.
 */
void mem_space_watch(struct mem_space *s, void *watch);
void *mem_space_watcher(const struct mem_space *s);
uint64_t mem_space_serial(const struct mem_space *s);
/* Adds to the space's hit and miss counters. */
void mem_space_count(struct mem_space *s, uint64_t hit_tokens,
		     uint64_t miss_tokens, uint64_t nonfinite);

/**
 * mem_segment_get() - segment @id of the space's tenant, for dev_export()
 * Return: 0 or -ENOENT: no such segment, or another tenant's.
 */
int mem_segment_get(struct mem_space *s, uint32_t id,
		    const struct dev_segment **ret);

/**
 * mem_segments() - ids of segments of the space's tenant that have pages
 * @ids:	out
 * @max:	room there
 * Return: how many.
 */
uint32_t mem_segments(const struct mem_space *s, uint32_t *ids, uint32_t max);

/* ---- pages, all batched ---- */

/**
 * mem_alloc() - @nr OPEN pages of a class, all or none
 * Return: 0; -EAGAIN room is being made, wait for mem_ops.room; -EDQUOT the
 * tenant's max; -ENOSPC nothing can be reclaimed (with both, *ret_need_bytes
 * says how much would have to be released); -EINVAL class, or a count that is
 * 0 or more than the pool or the tenant's max could ever hold; -ENOMEM.
 */
int mem_alloc(struct mem_client *c, struct mem_space *s, uint32_t class,
	      uint32_t nr, handle_t *handles, place_t *places,
	      uint64_t *ret_need_bytes);

/**
 * mem_release() - take one hold from each page, in order
 * Return: 0, or -ESTALE at the first page that @c does not hold;
 * *ret_released counts those before it.
 */
int mem_release(struct mem_client *c, const handle_t *handles, uint32_t nr,
		uint32_t *ret_released);

/**
 * mem_match() - hold pages found in the index
 * Grants from the front until one is not in the index of @s any more;
 * handles of 0 are skipped (place 0). Marks them recently used. Return:
 * number granted.
 */
uint32_t mem_match(struct mem_client *c, struct mem_space *s,
		   const handle_t *handles, uint32_t nr, place_t *places);

/* One more hold on sealed pages @c holds already. All or none; -ESTALE. */
int mem_reference(struct mem_client *c, const handle_t *handles, uint32_t nr);

/* Of a tenant's cached pages those of the lowest go first. */
enum mem_priority {
	MEM_LOW = -1,
	MEM_NORMAL,
	MEM_HIGH,
	MEM_NR_PRIORITIES = 3
};

struct mem_block {
	struct name parent;
	struct name extra;
	const uint32_t *tokens;	/* page_tokens of them */
	uint32_t depth;
	int priority;		/* of MEM_LOW to MEM_HIGH */
	handle_t pages[MEM_MAX_CLASSES]; /* 0: absent */
};

/**
 * mem_publish() - seal pages, put a block in the index
 * @b:		the block; its pages are OPEN (they become SEALED) or SEALED,
 *		and held by @c
 * @private:	seal only
 * @handles:	[nr_classes] the page now under the name; where it is not the
 *		caller's, the caller has gained one hold on it. 0 where the
 *		caller gave none
 * @places:	[nr_classes] theirs
 *
 * A page has one name for life. Publishing it again under that name changes
 * nothing. The two pages of a group with two classes may come together, or one
 * later, or one alone: a page of the open class alone keeps its block exact,
 * beside a sealed one it is the exact copy, and given up first. A block, and
 * what is before it, has the highest priority of all that were published, as
 * long as it is there; those of a predecessor are normal. Return: 0;
 * -ESTALE a page that is not held by @c or not of this space; -EINVAL a page
 * of another class than its slot's, or of another name; -ENOMEM.
 * Nothing has changed after an error.
 */
int mem_publish(struct mem_client *c, struct mem_space *s,
		const struct mem_block *b, bool private, handle_t *handles,
		place_t *places);

/**
 * mem_claim() - after a restart, or a reconnection to the same daemon while
 * the old connection is still being cleaned up: take back @holds holds. OPEN
 * pages only by the writer that owned them (pid and start time).
 * Return: 0, -ESTALE or -ENOMEM.
 */
int mem_claim(struct mem_client *c, struct mem_space *s, handle_t handle,
	      uint32_t holds);

/**
 * mem_claim_rest() - nothing more will be claimed by this series
 *
 * Open pages that connections of @c's series had and have not claimed, because
 * the answer that named them was lost, become FREE: nobody can write to them.
 * Return: there are more; call it again.
 */
bool mem_claim_rest(struct mem_client *c);

/* ---- pins ---- */

#define MEM_MAX_PINS 1024u	/* of a tenant */

struct mem_pin;

struct mem_pin_stat {
	uint32_t space;
	uint32_t block;		/* where it ends */
	uint32_t root;		/* the first block of its prefix */
	const char *tenant;
	uint32_t blocks;
	uint64_t tokens;
	uint64_t pages;		/* covered, those of other pins too */
	uint64_t bytes;
	uint64_t new_bytes;	/* of those not pinned yet */
	uint64_t left_ms;
};

/* What a tenant may pin of its max, or of the pool: 25 % at first. All of
 * them together half the pool, or that part if it is more. */
void mem_pin_percent(struct mem *m, uint32_t percent);

struct mem_pin_room {
	uint64_t bytes, max;	/* pinned by a tenant */
	uint64_t all_bytes, all_max; /* by all */
	uint32_t nr_pins;	/* the tenant's, at most MEM_MAX_PINS */
};

void mem_pin_room(const struct mem *m, const char *tenant,
		  struct mem_pin_room *ret);

/* The block named @name, or 0. */
uint32_t mem_pin_find(const struct mem_space *s, const struct name *name);

/* From block @from (0: the beginning) along @tokens, in whole blocks, as far
 * as the index has them. Return: the last; @from: none; 0 no such block. */
uint32_t mem_pin_follow(const struct mem_space *s, uint32_t from,
			const struct name *extra, const uint32_t *tokens,
			uint32_t nr);

/* From @block on as long as just one follows: what all prompts share that
 * begin so. Return: the last. */
uint32_t mem_pin_on(const struct mem_space *s, uint32_t block);

/**
 * mem_pin_look() - what a pin would cover that ends at @block
 * Return: 0; -ENOENT no such block, or its beginning is not in the index;
 * -E2BIG more blocks than one pin may cover.
 */
int mem_pin_look(const struct mem_space *s, uint32_t block,
		 struct mem_pin_stat *ret);

/**
 * mem_pin() - the pages up to @block stay, for @ttl_ms from @now_ms on
 *
 * Exact copies (page.h) do not, but for the last block's. Its pages are charged
 * to the tenant as before. A pin that is there already ends later, not sooner,
 * and covers what has come since. Return: as mem_pin_look(), and -EINVAL no
 * such time; -EDQUOT the tenant's limit, or all tenants', or there are too
 * many pins, with @ret filled but for left_ms; -ENOMEM. Nothing has changed
 * then.
 */
int mem_pin(struct mem_space *s, uint32_t block, uint64_t now_ms,
	    uint64_t ttl_ms, struct mem_pin_stat *ret);

/*
 * Ends the pin at @block, whoever made it. Large ones are let go of in steps,
 * by mem_trim() too. May call ops.room. Return: 0, -ENOENT.
 */
int mem_unpin(struct mem_space *s, uint32_t block);

/*
 * About once a second: ends those whose time is over, a bounded step. Return:
 * there is more; mem_trim() goes on. May call ops.room.
 */
bool mem_pin_tick(struct mem *m, uint64_t now_ms);

/* Walks a tenant's, those pinned longest ago first; NULL starts and ends. */
const struct mem_pin *mem_pin_next(const struct mem *m, const char *tenant,
				   const struct mem_pin *prev);
void mem_pin_stat(const struct mem_pin *pin, uint64_t now_ms,
		  struct mem_pin_stat *ret);

/* ---- a step at a time ---- */

/*
 * Each of these does a bounded step, of a hundred odd pages given up or some
 * thousand blocks looked at, and says where to go on. A cursor is of a space,
 * by its serial: another may have come to its id since.
 */
struct mem_given {
	uint64_t bytes;		/* of pages given up */
	uint64_t pages;
	uint64_t tier_bytes;	/* of pages that tiers have forgotten */
	uint64_t tier_pages;
	bool tier_owed;		/* tier_forgot.owed */
	uint32_t pins;		/* ended */
};

/**
 * mem_reclaim() - give up cached pages, those first that would go next
 * @tenant:	whose; NULL: of all tenants, but what their min keeps
 * @bytes:	until so many are given up, or nothing cached is left
 * @ret:	in this step
 * @ret_more:	there is more to be done: call again for the rest
 *
 * May call ops.room. Return: 0; -ENOENT there is no record of such a tenant,
 * so it has nothing; -EAGAIN in the grace time.
 */
int mem_reclaim(struct mem *m, const char *tenant, uint64_t bytes,
		struct mem_given *ret, bool *ret_more);

struct mem_cursor {		/* all 0: the beginning */
	uint64_t serial;
	uint32_t block;		/* the next; 0 after a step: that was all */
};

/* As blocks: behind them are the tiers, and the wait until those are done. */
#define MEM_DROP_TIERS (UINT32_MAX - 1)
#define MEM_DROP_DONE  UINT32_MAX

/* Space @id, or NULL. */
struct mem_space *mem_space_find(const struct mem *m, uint32_t id);

/**
 * mem_drop() - give up all that a space has cached, or pinned, or in tiers
 * Its pins end. Blocks and pins that come meanwhile may stay. May call
 * ops.room. Return: 0; -ENOENT @at is of another space; -EAGAIN in the grace
 * time.
 */
int mem_drop(struct mem_space *s, struct mem_cursor *at, struct mem_given *ret);

#define MEM_MAX_ROOTS 64

struct mem_survey {
	uint64_t blocks;
	uint64_t pages;
	uint64_t depth_sum;
	uint32_t depth_max;
	uint64_t shared;	/* blocks that more than one follows */
	uint64_t uses;		/* of all pages, each counted up to 255 */
	uint32_t nr_roots;	/* blocks of depth 0, the most used first */
	struct {
		uint32_t block;
		uint32_t uses;	/* of its most used page */
	} roots[MEM_MAX_ROOTS];
};

/**
 * mem_survey() - what the index of a space looks like
 * @top:	roots wanted
 * @ret:	of the blocks looked at in this step
 * Return: 0, or -ENOENT @at is of another space.
 */
int mem_survey(const struct mem_space *s, struct mem_cursor *at, uint32_t top,
	       struct mem_survey *ret);

/* Blocks that can be counted below one. */
#define MEM_MAX_BELOW 4096u

/* Blocks below @block, up to MEM_MAX_BELOW. */
uint32_t mem_survey_below(const struct mem_space *s, uint32_t block);

/* The tokens of @block, which mem_survey() has just named. */
const uint32_t *mem_survey_tokens(const struct mem_space *s, uint32_t block);

/* ---- figures ---- */

struct mem_counts {
	uint64_t of[PAGE_NR_STATES];
	uint64_t total;
};

/* What a page was given up for. */
enum mem_reclaim {
	MEM_RECLAIM_LIMITS = 0,	/* its tenant's, or its space's record */
	MEM_RECLAIM_DIRECT,	/* an allocation, by itself */
	MEM_RECLAIM_BACKGROUND,	/* a watermark */
	MEM_RECLAIM_DEMAND,	/* mem_reclaim(), mem_drop() */
	MEM_RECLAIM_NR
};

struct mem_stat {
	struct mem_counts pages;
	struct mem_counts bytes; /* FREE includes bytes not cut into pages */
	uint64_t segments;
	uint64_t hits, misses;	/* tokens */
	uint64_t published, deduplicated, evicted, nonfinite, demoted;
	uint64_t reclaimed[MEM_RECLAIM_NR]; /* pages; evicted is their sum */
	uint64_t released;	/* pages, by mem_writer_release() */
	uint64_t room;		/* of the class that has the least */
	struct mem_marks marks;	/* its */
	uint32_t nr_spaces;
};

struct mem_space_stat {
	uint32_t id;
	const char *tenant;
	const struct mem_space_key *key;
	uint64_t fingerprint;
	uint32_t clients;
	uint64_t blocks;
	uint64_t hits, misses;
	struct mem_counts pages;
	struct mem_counts class_pages[MEM_MAX_CLASSES];
};

struct mem_tenant_stat {
	struct mem_limits limits;
	uint64_t charged;
	uint32_t clients;
	struct mem_counts pages;
	struct mem_counts bytes;
};

struct mem_client_stat {
	uint64_t open_pages;
	uint64_t held_pages;
	uint64_t bytes;
};

void mem_stat(const struct mem *m, struct mem_stat *ret);
/* Walks the spaces; NULL starts, NULL ends. */
struct mem_space *mem_space_next(const struct mem *m, struct mem_space *prev);
void mem_space_stat(const struct mem_space *s, struct mem_space_stat *ret);
void mem_client_stat(const struct mem_client *c, struct mem_client_stat *ret);
/* Names of tenants that have a record; NULL starts, NULL ends. */
const char *mem_tenant_next(const struct mem *m, const char *prev);
/* Of a tenant without a record its limits, and zeros. */
void mem_tenant_stat(const struct mem *m, const char *name,
		     struct mem_tenant_stat *ret);

/**
 * mem_verify() - walk the whole structure: states against lists, holds,
 * counters, charges, index, slabs. O(all pages): tests and `kvctl stat
 * --verify`.
 * Return: 0, or -EUCLEAN with *why the first thing that does not add up.
 */
int mem_verify(const struct mem *m, char *why, size_t why_bytes);

/*
 * The same, and it goes on: @tell has one line for each page, list, tenant,
 * space and client that does not add up. Return: 0, -EUCLEAN, -ENOMEM.
 */
int mem_verify_all(const struct mem *m,
		   void (*tell)(void *ctx, const char *what), void *ctx);

#endif

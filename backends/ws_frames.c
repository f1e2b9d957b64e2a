/* Frames of the relay's connection: into WebSocket frames and out of them. See ws.c.
 *
 * RFC 6455 section 5. libwebsockets parses what arrives; what is sent is framed here,
 * so that many Ethernet frames go out in one write. I/O thread only.
 */
#include <sys/random.h>

#include "backends/ws_priv.h"
#include "core/loop.h"
#include "core/util.h"

uint32_t ws_random32(struct ws_io *io)
{
	if (!io->masks) {
		if (getrandom(io->mask, sizeof(io->mask), 0) != sizeof(io->mask))
			for (unsigned i = 0; i < WS_MASKS; i++)
				io->mask[i] = (uint32_t)(ws_now() * 2654435761u) ^ i << 16;
		io->masks = WS_MASKS;
	}
	return io->mask[--io->masks];
}

/* ---- sending ---- */

void ws_drop_queued(struct ws_io *io)
{
	while (frame_queue_peek(io->out)) {
		net_count(&io->counter[WS_DROP_STALE]);
		frame_queue_pop(io->out);
	}
}

/* RFC 6455 section 5.2: FIN and binary, then the masked payload. Returns its size. */
static size_t put_frame(uint8_t *to, const struct frame *f, uint32_t mask)
{
	size_t header = f->len < 126 ? 2 : 4, i = 0;
	uint64_t mask64 = mask | (uint64_t)mask << 32, word;
	uint8_t *data = to + header + 4;

	to[0] = 0x82;
	if (f->len < 126) {
		to[1] = 0x80 | f->len;
	} else {
		to[1] = 0x80 | 126;
		to[2] = f->len >> 8;
		to[3] = f->len;
	}
	memcpy(to + header, &mask, 4);
	for (; i + 8 <= f->len; i += 8) {
		memcpy(&word, f->data + i, 8);
		word ^= mask64;
		memcpy(data + i, &word, 8);
	}
	for (; i < f->len; i++)
		data[i] = f->data[i] ^ ((uint8_t *)&mask64)[i & 7];
	return header + 4 + f->len;
}

static void age_check(lws_sorted_usec_list_t *timer)
{
	struct ws_io *io = lws_container_of(timer, struct ws_io, age_timer);

	if (ws_pump(io))
		ws_abandon(io, "the connection broke");
}

/* Frames nobody took in time. Returns the oldest of those that are young enough. */
static const struct frame *oldest_young(struct ws_io *io, int64_t now)
{
	const struct frame *f;

	while ((f = frame_queue_peek(io->out)) && now - f->stamp > io->config.age) {
		net_count(&io->counter[WS_DROP_AGED]);
		frame_queue_pop(io->out);
	}
	return f;
}

/* Until the socket takes more, or @oldest is too old. */
static void wait_writable(struct ws_io *io, const struct frame *oldest, int64_t now)
{
	int64_t left = oldest ? MAX(oldest->stamp + io->config.age - now, 0) : io->config.age;

	if (!frame_queue_arm(io->out))
		frame_queue_seen(io->out);
	lws_callback_on_writable(io->wsi);
	lws_sul_schedule(io->context, 0, &io->age_timer, age_check, left / 1000 + 1000);
}

int ws_pump(struct ws_io *io)
{
	for (;;) {
		int64_t now = ws_now();
		const struct frame *f;
		size_t used = 0;
		unsigned frames = 0;

		if (!io->connected)
			ws_drop_queued(io); /* and no ping: see lost() */
		f = oldest_young(io, now);
		if (!f && !io->want_ping) {
			if (frame_queue_arm(io->out))
				return 0;
			continue;
		}
		if (lws_send_pipe_choked(io->wsi)) {
			wait_writable(io, f, now);
			return 0;
		}
		if (io->want_ping) {
			io->want_ping = false;
			if (lws_write(io->wsi, io->tx + LWS_PRE, 0, LWS_WRITE_PING) < 0)
				return -1;
			continue;
		}
		while (f && used < WS_TX_BATCH) {
			used += put_frame(io->tx + LWS_PRE + used, f, ws_random32(io));
			frames++;
			frame_queue_pop(io->out);
			f = oldest_young(io, now);
		}
		net_count_add(&io->counter[WS_SENT], frames);
		io->written_at = now;
		if (lws_write(io->wsi, io->tx + LWS_PRE, used, LWS_WRITE_RAW) < 0)
			return -1;
		if (used >= WS_TX_BATCH) { /* a flood: let the other direction have its turn */
			wait_writable(io, f, now);
			return 0;
		}
	}
}

/* ---- receiving ---- */

void ws_pause_if_full(struct ws_io *io, struct lws *wsi)
{
	if (io->discarding || frame_queue_room(io->in, NET_FRAME_MAX) ||
	    !frame_queue_want_room(io->in))
		return;
	io->paused = true;
	io->paused_at = ws_now();
	lws_rx_flow_control(wsi, 0);
}

static void deliver(struct ws_io *io, struct lws *wsi, const uint8_t *data, size_t len)
{
	if (!len)
		net_count(&io->counter[WS_DROP_EMPTY]);
	else if (!frame_queue_push(io->in, data, len, ws_now()))
		net_count(&io->counter[WS_DROP_QUEUE_FULL]);
	else
		ws_pause_if_full(io, wsi);
}

void ws_received(struct ws_io *io, struct lws *wsi, const uint8_t *data, size_t len)
{
	bool first = lws_is_first_fragment(wsi), final = lws_is_final_fragment(wsi);

	if (first) {
		io->skip_counter = lws_frame_is_binary(wsi) ? 0 : WS_DROP_TEXT;
		io->assembled = 0;
		if (final && !io->skip_counter && len <= NET_FRAME_MAX) {
			deliver(io, wsi, data, len);
			return;
		}
	}
	io->in_message = !final;
	if (!io->skip_counter && len > NET_FRAME_MAX - io->assembled)
		io->skip_counter = WS_DROP_TOO_LONG;
	if (!io->skip_counter) {
		memcpy(io->assembly + io->assembled, data, len);
		io->assembled += len;
	}
	if (!final)
		return;
	if (io->skip_counter)
		net_count(&io->counter[io->skip_counter]);
	else
		deliver(io, wsi, io->assembly, io->assembled);
}

/* The status: JSON for programs, and a page that shows it to people. The page is
 * constant and puts everything it fetches on the screen as text nodes, so nothing a
 * client says can become markup.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/util.h"
#include "tools/relay_priv.h"

enum { MACS_SHOWN = 8 };

static const char html[] =
"<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>gannet relay</title>\n"
"<meta name=\"viewport\" content=\"width=device-width\">\n"
"<style>\n"
"body{font:15px/1.4 system-ui,sans-serif;margin:2em;color:#222;background:#fff}\n"
"h1{font-size:1.3em;margin:0 0 .2em}p{margin:.2em 0 1.2em;color:#555}\n"
"table{border-collapse:collapse;margin-bottom:1.6em}\n"
"th,td{padding:.25em .8em;text-align:right;border-bottom:1px solid #ddd;white-space:nowrap}\n"
"th{font-weight:600;border-bottom:2px solid #999}\n"
"td.t,th.t{text-align:left}td.m{font-family:ui-monospace,monospace;font-size:.9em}\n"
"td.d{color:#b00}#e{color:#b00}\n"
"@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}p{color:#aaa}\n"
"th,td{border-color:#444}td.d,#e{color:#f77}}\n"
"</style></head><body>\n"
"<h1>gannet relay</h1><p id=\"s\">&hellip;</p><p id=\"e\" role=\"alert\"></p>\n"
"<div id=\"u\"></div><div id=\"c\"></div>\n"
"<script>\n"
"'use strict';\n"
"const $=i=>document.getElementById(i);let last=null,lastAt=0;\n"
"function size(n){const u=['B','KiB','MiB','GiB','TiB'];let i=0;while(n>=1024&&i<4){n/=1024;i++}\n"
" return (i?n.toFixed(n<10?2:n<100?1:0):Math.round(n))+' '+u[i]}\n"
"function time(s){s=Math.floor(s);const d=Math.floor(s/86400),h=Math.floor(s/3600)%24,m=Math.floor(s/60)%60;\n"
" return (d?d+' d ':'')+(d||h?h+' h ':'')+(d||h||m?m+' min ':'')+s%60+' s'}\n"
"function table(where,head,rows){const t=document.createElement('table');\n"
" function row(cells,tag){const r=document.createElement('tr');for(const [text,cls] of cells){\n"
"  const c=document.createElement(tag);c.textContent=text;if(cls)c.className=cls;r.appendChild(c)}\n"
"  t.appendChild(r)}\n"
" row(head,'th');for(const r of rows)row(r,'td');where.replaceChildren(t)}\n"
"function drops(c){return Object.entries(c).filter(([k,v])=>k.startsWith('drop.')&&v)\n"
" .map(([k,v])=>k.slice(5)+' '+v).join(', ')}\n"
"function show(j){const now=performance.now()/1000,dt=now-lastAt,old=new Map();\n"
" if(last)for(const c of last.clients)old.set(c.id,c);\n"
" const rate=(c,k)=>{const o=old.get(c.id);return o&&dt>0?size((c.counters[k]-o.counters[k])/dt)+'/s':''};\n"
" $('s').textContent=j.clients.length+' clients, up '+time(j.uptime)+', in '+size(j.totals['bytes-in'])+\n"
"  ', out '+size(j.totals['bytes-out'])+(j.refused?', '+j.refused+' refused':'');\n"
" if(j.uplinks.length)table($('u'),[['uplink','t'],['state','t'],['in'],['out'],['dropped']],j.uplinks.map(u=>\n"
"  [[u.url,'t'],[(u.up?'up ':'down ')+u.status,'t'],[size(u['bytes-in'])],[size(u['bytes-out'])],\n"
"   [u['drop.uplink-full'],u['drop.uplink-full']?'d':'']]));\n"
" table($('c'),[['client'],['address','t'],['MAC','t'],['connected'],['in'],['',''],['out'],['',''],['waiting'],['dropped','t']],\n"
"  j.clients.map(c=>[[c.id],[c.address,'t'],[c.macs.join(' '),'t m'],[time(c.connected)],\n"
"   [size(c.counters['bytes-in'])],[rate(c,'bytes-in')],[size(c.counters['bytes-out'])],[rate(c,'bytes-out')],\n"
"   [size(c.queued_bytes)],[drops(c.counters),'t d']]));\n"
" last=j;lastAt=now}\n"
"async function go(){try{const r=await fetch('/status.json'+location.search,{cache:'no-store'});\n"
"  if(!r.ok)throw new Error(r.status+' '+r.statusText);show(await r.json());$('e').textContent=''}\n"
" catch(e){$('e').textContent='no answer from the relay: '+e.message}\n"
" setTimeout(go,1000)}\n"
"go();\n"
"</script></body></html>\n";

static struct relay_text *text_create(size_t size)
{
	struct relay_text *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->refs = 1;
	t->size = size;
	t->data = malloc(size);
	if (!t->data) {
		free(t);
		return NULL;
	}
	return t;
}

void relay_text_put(struct relay_text *t)
{
	if (!t || --t->refs)
		return;
	free(t->data);
	free(t);
}

static bool room(struct relay_text *t, size_t more)
{
	size_t size = t->size;
	char *data;

	if (t->failed)
		return false;
	while (size - t->len < more)
		size *= 2;
	if (size == t->size)
		return true;
	data = realloc(t->data, size);
	t->failed = !data;
	if (!data)
		return false;
	t->data = data;
	t->size = size;
	return true;
}

static void add(struct relay_text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void add(struct relay_text *t, const char *fmt, ...)
{
	va_list ap, again;
	int n;

	va_start(ap, fmt);
	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, ap);
	if (n >= 0 && room(t, (size_t)n + 1))
		t->len += (size_t)vsnprintf(t->data + t->len, t->size - t->len, fmt, again);
	va_end(again);
	va_end(ap);
}

/* A JSON string in ASCII; '<' too is escaped, in case somebody puts it into a page. */
static void add_string(struct relay_text *t, const char *s)
{
	add(t, "\"");
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if (c < 0x20 || c >= 0x7f || strchr("\"\\<>&'", c))
			add(t, "\\u%04x", c);
		else
			add(t, "%c", c);
	}
	add(t, "\"");
}

static void add_counts(struct relay_text *t, const uint64_t *count)
{
	add(t, "{");
	for (unsigned i = 0; i < RELAY_COUNTS; i++)
		add(t, "%s\"%s\":%llu", i ? "," : "", relay_count_name(i),
		    (unsigned long long)count[i]);
	add(t, "}");
}

static void add_client(struct relay_text *t, struct relay *r, const struct relay_client *c,
		       int64_t now)
{
	uint8_t mac[MACS_SHOWN][NET_MAC_SIZE];
	char text[NET_MAC_TEXT_SIZE];
	unsigned n = relay_switch_macs(r->sw, c->port, now, mac, MACS_SHOWN);

	add(t, "{\"id\":%u,\"address\":", c->id);
	add_string(t, c->address);
	add(t, ",\"path\":");
	add_string(t, c->path);
	add(t, ",\"mac_count\":%u,\"macs\":[", n);
	for (unsigned i = 0; i < n && i < MACS_SHOWN; i++)
		add(t, "%s\"%s\"", i ? "," : "", net_mac_format(text, mac[i]));
	add(t, "],\"connected\":%.3f,\"silent\":%.3f,\"queued_frames\":%u,\"queued_bytes\":%zu,"
	    "\"counters\":", (double)(now - c->since) * 1e-9, (double)(now - c->heard) * 1e-9,
	    c->queue.frames, c->queue.bytes);
	add_counts(t, c->count);
	add(t, "}");
}

static void add_uplink(struct relay_text *t, struct relay_uplink *u, const char *role)
{
	struct relay_uplink_info i;

	relay_uplink_info(u, &i);
	add(t, "{\"role\":\"%s\",\"url\":", role);
	add_string(t, i.url);
	add(t, ",\"status\":");
	add_string(t, i.status);
	add(t, ",\"up\":%s,\"frames-in\":%llu,\"bytes-in\":%llu,\"frames-out\":%llu,"
	    "\"bytes-out\":%llu,\"drop.uplink-full\":%llu,\"drop.relay-full\":%llu}",
	    i.up ? "true" : "false",
	    (unsigned long long)i.frames_in, (unsigned long long)i.bytes_in,
	    (unsigned long long)i.frames_out, (unsigned long long)i.bytes_out,
	    (unsigned long long)i.drop_full, (unsigned long long)i.drop_in_full);
}

struct relay_text *relay_page_html(void)
{
	struct relay_text *t = text_create(sizeof(html));

	if (t)
		add(t, "%s", html);
	return t;
}

struct relay_text *relay_page_json(struct relay *r)
{
	int64_t now = relay_now();
	struct relay_text *t = text_create(4096 + 1024 * (size_t)r->clients);

	if (!t)
		return NULL;
	add(t, "{\"uptime\":%.3f,\"clients_peak\":%u,\"max_clients\":%llu,\"macs\":%u,"
	    "\"memory_used\":%zu,\"memory_limit\":%llu,\"refused\":%llu,\"totals\":",
	    (double)(now - r->started) * 1e-9, r->clients_peak,
	    (unsigned long long)r->options.max_clients, relay_switch_used(r->sw),
	    relay_pool_used(r->pool), (unsigned long long)r->options.memory,
	    (unsigned long long)r->refused);
	add_counts(t, r->count);
	add(t, ",\"uplink_totals\":");
	add_counts(t, r->uplink_count);
	add(t, ",\"uplinks\":[");
	for (unsigned i = 0; i < r->uplinks; i++) {
		add(t, "%s", i ? "," : "");
		add_uplink(t, r->uplink[i], "uplink");
	}
	if (r->mirror) {
		add(t, "%s", r->uplinks ? "," : "");
		add_uplink(t, r->mirror, "capture");
	}
	add(t, "],\"clients\":[\n");
	for (unsigned i = 0; i < r->clients; i++) {
		add(t, "%s", i ? ",\n" : "");
		add_client(t, r, r->client[i], now);
	}
	add(t, "]}\n");
	if (t->failed) {
		relay_text_put(t);
		t = NULL;
	}
	return t;
}

const char *relay_count_name(unsigned count)
{
	static const char *const names[RELAY_COUNTS] = {
		[RELAY_FRAMES_IN] = "frames-in", [RELAY_BYTES_IN] = "bytes-in",
		[RELAY_FRAMES_OUT] = "frames-out", [RELAY_BYTES_OUT] = "bytes-out",
#define IN_DROP(x) [RELAY_IN_DROP + RELAY_DROP_##x - RELAY_DROP_RUNT]
		IN_DROP(RUNT) = "drop.runt", IN_DROP(TOO_LONG) = "drop.too-long",
		IN_DROP(LINK_LOCAL) = "drop.link-local", IN_DROP(BAD_SOURCE) = "drop.bad-source",
		IN_DROP(MAC_TAKEN) = "drop.mac-taken", IN_DROP(MAC_LIMIT) = "drop.mac-limit",
		IN_DROP(SAME_PORT) = "drop.same-port",
#undef IN_DROP
		[RELAY_IN_TEXT] = "drop.text", [RELAY_IN_RATE] = "drop.rate",
		[RELAY_IN_MEMORY] = "drop.memory",
		[RELAY_OUT_QUEUE_FULL] = "drop.queue-full", [RELAY_OUT_STALE] = "drop.stale",
		[RELAY_OUT_GONE] = "drop.gone",
	};

	return names[count];
}

/* See mc146818.h.
 *
 * Theory: the time is the guest's clock plus `epoch`; the ten time registers
 * are made from it when read, in the format register B asks for. While the
 * guest has stopped the clock (SET, or a divider chain that does not run) they
 * hold what it wrote, and become the time when it lets go. Flags of register C
 * are brought up to date from the time when they are read; the timer runs only
 * while an interrupt is enabled.
 *
 * The century is at 0x32, which is what firmware and the FADT say.
 *
 * Source: Motorola MC146818A datasheet; PC/AT Technical Reference for the CMOS.
 */
#include "devices/mc146818.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/ioport.h"
#include "core/loop.h"
#include "core/util.h"

enum {
	REG_SECONDS, REG_SECONDS_ALARM, REG_MINUTES, REG_MINUTES_ALARM, REG_HOURS,
	REG_HOURS_ALARM, REG_WEEKDAY, REG_DAY, REG_MONTH, REG_YEAR,
	REG_A, REG_B, REG_C, REG_D,
	REG_CENTURY = 0x32,
	CMOS_SIZE = 128,
};

enum {
	A_UIP = 1 << 7,
	A_DV = 7 << 4,
	A_DV_RUN = 2 << 4, /* 32768 Hz */
	A_RS = 15,
	B_SET = 1 << 7,
	B_PIE = 1 << 6,
	B_AIE = 1 << 5,
	B_UIE = 1 << 4,
	B_SQWE = 1 << 3,
	B_DM = 1 << 2, /* binary, not BCD */
	B_24 = 1 << 1,
	C_IRQF = 1 << 7,
	C_PF = 1 << 6,
	C_AF = 1 << 5,
	C_UF = 1 << 4,
	C_FLAGS = C_PF | C_AF | C_UF,
	D_VRT = 1 << 7,
	ALARM_ANY = 0xc0,
	HOUR_PM = 0x80,
};

#define UIP_NS 2228000 /* 244 us of warning and 1984 us of update */
#define DAY_S 86400ll
/* 0001-01-01 to 9999-12-31 in seconds since 1970: what the registers can say. */
#define TIME_MIN (-62135596800ll)
#define TIME_MAX 253402300799ll

struct mc146818 {
	struct device base;
	struct machine *machine; /* borrowed */
	struct irq_line irq8;
	uint8_t cmos[CMOS_SIZE];
	uint8_t index;
	uint8_t weekday; /* added to the true one, 0-6: as the guest has set it */
	int64_t epoch;   /* ns: UTC when the guest's clock was 0 */
	int64_t seen_second; /* up to which UF and AF have been worked out */
	int64_t seen_period; /* up to which PF has */
	struct timer timer;
};

/* ---- time ---- */

int64_t mc146818_host_time(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

static int64_t floor_div(int64_t a, int64_t b)
{
	return a / b - (a % b < 0);
}

static int64_t rtc_now(const struct mc146818 *rtc)
{
	int64_t now;

	/* Time stands still in 2262. */
	if (__builtin_add_overflow(loop_now(rtc->machine->loop), rtc->epoch, &now))
		return INT64_MAX;
	return now;
}

static bool stopped(const struct mc146818 *rtc)
{
	return rtc->cmos[REG_B] & B_SET || (rtc->cmos[REG_A] & A_DV) != A_DV_RUN;
}

static uint8_t encode(const struct mc146818 *rtc, unsigned v)
{
	return rtc->cmos[REG_B] & B_DM ? v : v / 10 << 4 | v % 10;
}

static unsigned decode(const struct mc146818 *rtc, uint8_t v)
{
	return rtc->cmos[REG_B] & B_DM ? v : (v >> 4) * 10u + (v & 15);
}

static uint8_t encode_hour(const struct mc146818 *rtc, unsigned hour)
{
	if (rtc->cmos[REG_B] & B_24)
		return encode(rtc, hour);
	return encode(rtc, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? HOUR_PM : 0);
}

static unsigned decode_hour(const struct mc146818 *rtc, uint8_t v)
{
	unsigned hour;

	if (rtc->cmos[REG_B] & B_24)
		return decode(rtc, v);
	hour = decode(rtc, v & ~HOUR_PM) % 12;
	return v & HOUR_PM ? hour + 12 : hour;
}

/* Days since 1970-01-01 of a proleptic Gregorian date, and back. The year is
 * made to start in March, so that the leap day comes last. */
static int64_t days_from_date(int64_t year, unsigned month, unsigned day)
{
	int64_t y = month <= 2 ? year - 1 : year, era = floor_div(y, 400);
	unsigned yoe = y - era * 400, shifted = (month + 9) % 12;
	unsigned doy = (153 * shifted + 2) / 5 + day - 1;

	return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

static void date_from_days(int64_t days, unsigned *year, unsigned *month, unsigned *day)
{
	int64_t z = days + 719468, era = floor_div(z, 146097);
	unsigned doe = z - era * 146097;
	unsigned yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	unsigned doy = doe - (365 * yoe + yoe / 4 - yoe / 100), shifted = (5 * doy + 2) / 153;

	*day = doy - (153 * shifted + 2) / 5 + 1;
	*month = shifted < 10 ? shifted + 3 : shifted - 9;
	*year = yoe + era * 400 + (*month <= 2);
}

/* Write the time into the registers. */
static void fill_registers(struct mc146818 *rtc)
{
	int64_t seconds = floor_div(rtc_now(rtc), NS_PER_S), days;
	unsigned year, month, day, rest;

	seconds = MAX(MIN(seconds, TIME_MAX), TIME_MIN);
	days = floor_div(seconds, DAY_S);
	rest = seconds - days * DAY_S;
	date_from_days(days, &year, &month, &day);
	rtc->cmos[REG_SECONDS] = encode(rtc, rest % 60);
	rtc->cmos[REG_MINUTES] = encode(rtc, rest / 60 % 60);
	rtc->cmos[REG_HOURS] = encode_hour(rtc, rest / 3600);
	/* 1970-01-01 was a Thursday, which is day 5. */
	rtc->cmos[REG_WEEKDAY] = encode(rtc, (days + 4 + 7 * 1000000ll + rtc->weekday) % 7 + 1);
	rtc->cmos[REG_DAY] = encode(rtc, day);
	rtc->cmos[REG_MONTH] = encode(rtc, month);
	rtc->cmos[REG_YEAR] = encode(rtc, year % 100);
	rtc->cmos[REG_CENTURY] = year / 1000 << 4 | year / 100 % 10;
}

/* Make the time what the registers say, @fraction ns into the second. */
static void take_registers(struct mc146818 *rtc, int64_t fraction)
{
	const uint8_t *c = rtc->cmos;
	unsigned century = (c[REG_CENTURY] >> 4) * 10 + (c[REG_CENTURY] & 15);
	unsigned year = century * 100 + decode(rtc, c[REG_YEAR]);
	unsigned month = MAX(MIN(decode(rtc, c[REG_MONTH]), 12u), 1u);
	int64_t days = days_from_date(year, month, decode(rtc, c[REG_DAY]));
	int64_t seconds = days * DAY_S + decode_hour(rtc, c[REG_HOURS]) * 3600ll +
			  decode(rtc, c[REG_MINUTES]) * 60 + decode(rtc, c[REG_SECONDS]);
	unsigned weekday = (floor_div(seconds, DAY_S) + 4 + 7 * 1000000ll) % 7;

	seconds = MAX(MIN(seconds, TIME_MAX), TIME_MIN);
	/* int64_t nanoseconds end in 2262: later years stay at that. */
	seconds = MAX(MIN(seconds, INT64_MAX / NS_PER_S / 2 + (1ll << 32)), -(1ll << 32));
	rtc->epoch = seconds * NS_PER_S + fraction - loop_now(rtc->machine->loop);
	rtc->weekday = (decode(rtc, c[REG_WEEKDAY]) + 13 - weekday) % 7;
	rtc->seen_second = seconds;
}

/* ---- flags and interrupts ---- */

/* Periods in a second, 0 for none. */
static unsigned period_hz(const struct mc146818 *rtc)
{
	unsigned rs = rtc->cmos[REG_A] & A_RS;

	if (!rs || (rtc->cmos[REG_A] & A_DV) != A_DV_RUN)
		return 0;
	return 32768u >> (rs < 3 ? rs + 6 : rs - 1);
}

static int64_t period_index(const struct mc146818 *rtc)
{
	return (int64_t)((__int128)loop_now(rtc->machine->loop) * period_hz(rtc) / NS_PER_S);
}

static bool alarm_at(const struct mc146818 *rtc, int64_t second)
{
	unsigned rest = second - floor_div(second, DAY_S) * DAY_S;
	const uint8_t *c = rtc->cmos;

	return (c[REG_SECONDS_ALARM] >= ALARM_ANY ||
		c[REG_SECONDS_ALARM] == encode(rtc, rest % 60)) &&
	       (c[REG_MINUTES_ALARM] >= ALARM_ANY ||
		c[REG_MINUTES_ALARM] == encode(rtc, rest / 60 % 60)) &&
	       (c[REG_HOURS_ALARM] >= ALARM_ANY ||
		c[REG_HOURS_ALARM] == encode_hour(rtc, rest / 3600));
}

static void update_flags(struct mc146818 *rtc)
{
	uint8_t *c = &rtc->cmos[REG_C];
	int64_t second = floor_div(rtc_now(rtc), NS_PER_S), index;

	if (stopped(rtc)) {
		rtc->seen_second = second;
	} else if (second > rtc->seen_second) {
		*c |= C_UF;
		rtc->seen_second = MAX(rtc->seen_second, second - DAY_S);
		while (!(*c & C_AF) && rtc->seen_second < second) {
			if (alarm_at(rtc, ++rtc->seen_second))
				*c |= C_AF;
		}
		rtc->seen_second = second;
	}
	index = period_hz(rtc) ? period_index(rtc) : 0;
	if (index > rtc->seen_period && period_hz(rtc))
		*c |= C_PF;
	rtc->seen_period = index;
	if (*c & rtc->cmos[REG_B] & C_FLAGS)
		*c |= C_IRQF;
	else
		*c &= ~C_IRQF;
}

static void arm(struct mc146818 *rtc)
{
	int64_t next = INT64_MAX;
	uint8_t b = rtc->cmos[REG_B];
	unsigned hz = period_hz(rtc);

	if (b & B_PIE && hz)
		next = MIN(((__int128)(rtc->seen_period + 1) * NS_PER_S + hz - 1) / hz, INT64_MAX / 2);
	if (b & (B_AIE | B_UIE) && !stopped(rtc) && rtc_now(rtc) < INT64_MAX) {
		__int128 at = (__int128)(rtc->seen_second + 1) * NS_PER_S - rtc->epoch;

		next = MAX(MIN(next, at), 0);
	}
	if (next == INT64_MAX)
		timer_disarm(&rtc->timer);
	else
		timer_arm(&rtc->timer, next);
}

static void refresh(struct mc146818 *rtc)
{
	update_flags(rtc);
	irq_set(&rtc->irq8, rtc->cmos[REG_C] & C_IRQF);
	arm(rtc);
}

static void rtc_fire(void *opaque)
{
	refresh(opaque);
}

/* ---- registers ---- */

static bool is_time(unsigned index)
{
	return index == REG_CENTURY ||
	       (index <= REG_YEAR && (index > REG_HOURS_ALARM || !(index & 1)));
}

static void write_a_or_b(struct mc146818 *rtc, unsigned index, uint8_t value)
{
	bool was_stopped = stopped(rtc), was_set = rtc->cmos[REG_B] & B_SET;

	update_flags(rtc);
	if (!was_stopped)
		fill_registers(rtc);
	if (index == REG_A) {
		rtc->cmos[REG_A] = value & ~A_UIP;
		rtc->seen_period = period_hz(rtc) ? period_index(rtc) : 0;
	} else {
		rtc->cmos[REG_B] = value & B_SET ? value & ~B_UIE : value;
	}
	/* Out of divider reset the first update comes half a second later. */
	if (was_stopped && !stopped(rtc))
		take_registers(rtc, was_set && index == REG_B ? 0 : NS_PER_S / 2);
	refresh(rtc);
}

static void cmos_write(struct mc146818 *rtc, unsigned index, uint8_t value)
{
	if (index == REG_A || index == REG_B) {
		write_a_or_b(rtc, index, value);
	} else if (index == REG_C || index == REG_D) {
		return;
	} else if (is_time(index) && !stopped(rtc)) {
		int64_t fraction = rtc_now(rtc) - floor_div(rtc_now(rtc), NS_PER_S) * NS_PER_S;

		update_flags(rtc);
		fill_registers(rtc);
		rtc->cmos[index] = value;
		take_registers(rtc, fraction);
		arm(rtc);
	} else {
		rtc->cmos[index] = value;
	}
}

static uint8_t cmos_read(struct mc146818 *rtc, unsigned index)
{
	uint8_t v;

	if (is_time(index) && !stopped(rtc))
		fill_registers(rtc);
	if (index == REG_A && !stopped(rtc)) {
		int64_t now = rtc_now(rtc), left;

		left = (floor_div(now, NS_PER_S) + 1) * NS_PER_S - now;
		return rtc->cmos[REG_A] | (left <= UIP_NS ? A_UIP : 0);
	}
	if (index != REG_C)
		return rtc->cmos[index];
	update_flags(rtc);
	v = rtc->cmos[REG_C];
	rtc->cmos[REG_C] = 0;
	irq_set(&rtc->irq8, false);
	arm(rtc);
	return v;
}

static uint32_t rtc_read(void *opaque, uint16_t port, unsigned size)
{
	struct mc146818 *rtc = opaque;

	return port & 1 ? cmos_read(rtc, rtc->index) : 0xff;
}

static void rtc_write(void *opaque, uint16_t port, uint32_t value, unsigned size)
{
	struct mc146818 *rtc = opaque;

	if (port & 1)
		cmos_write(rtc, rtc->index, value);
	else
		rtc->index = value & (CMOS_SIZE - 1); /* bit 7 masks NMI, and there is none */
}

static const struct ioport_ops rtc_ports = {.read = rtc_read, .write = rtc_write};

/* ---- life ---- */

void mc146818_set_cmos(struct mc146818 *rtc, uint8_t index, uint8_t value)
{
	if (index > REG_D && index < CMOS_SIZE)
		rtc->cmos[index] = value;
}

uint8_t mc146818_cmos(const struct mc146818 *rtc, uint8_t index)
{
	return rtc->cmos[index & (CMOS_SIZE - 1)];
}

int64_t mc146818_time(const struct mc146818 *rtc)
{
	return rtc_now(rtc);
}

void mc146818_set_time(struct mc146818 *rtc, int64_t utc_ns)
{
	rtc->epoch = utc_ns - loop_now(rtc->machine->loop);
	rtc->seen_second = floor_div(utc_ns, NS_PER_S);
	fill_registers(rtc);
	refresh(rtc);
}

/* The battery keeps the time and the memory; RESET# clears enables and flags. */
static void mc146818_reset(struct device *dev)
{
	struct mc146818 *rtc = container_of(dev, struct mc146818, base);

	rtc->index = 0;
	rtc->cmos[REG_B] &= ~(B_PIE | B_AIE | B_UIE | B_SQWE);
	rtc->cmos[REG_C] = 0;
	refresh(rtc);
}

static void mc146818_destroy(struct device *dev)
{
	struct mc146818 *rtc = container_of(dev, struct mc146818, base);

	timer_disarm(&rtc->timer);
	free(rtc);
}

static void mc146818_loaded(struct device *dev)
{
	refresh(container_of(dev, struct mc146818, base));
}

static bool mc146818_check(const struct device *dev, const char **field)
{
	const struct mc146818 *rtc = container_of(dev, const struct mc146818, base);

	*field = rtc->seen_period < 0 || rtc->seen_period > INT64_MAX / 4 ? "seen_period" :
		 rtc->seen_second < TIME_MIN || rtc->seen_second > TIME_MAX ? "seen_second" : NULL;
	return !*field;
}

static const struct state_field mc146818_fields[] = {
	STATE_BYTES(struct mc146818, cmos),
	STATE_UINT_MAX(struct mc146818, index, CMOS_SIZE - 1),
	STATE_UINT_MAX(struct mc146818, weekday, 6),
	STATE_UINT(struct mc146818, epoch),
	STATE_UINT(struct mc146818, seen_second),
	STATE_UINT(struct mc146818, seen_period),
	STATE_TIMER(struct mc146818, timer),
	STATE_END,
};

static const struct device_ops mc146818_ops = {
	.name = "mc146818",
	.reset = mc146818_reset,
	.destroy = mc146818_destroy,
	.fields = mc146818_fields, .size = sizeof(struct mc146818),
	.loaded = mc146818_loaded,
	.check = mc146818_check,
};

struct mc146818 *mc146818_create(struct machine *m, const struct irq_line *irq8,
				 struct error *err)
{
	struct mc146818 *rtc = calloc(1, sizeof(*rtc));

	if (!rtc) {
		error_set(err, "RTC: out of memory");
		return NULL;
	}
	rtc->base.ops = &mc146818_ops;
	rtc->machine = m;
	rtc->irq8 = *irq8;
	rtc->cmos[REG_A] = A_DV_RUN | 6; /* 1024 Hz */
	rtc->cmos[REG_B] = B_24;
	rtc->cmos[REG_D] = D_VRT;
	timer_init(&rtc->timer, m->loop, "mc146818", rtc_fire, rtc);
	mc146818_set_time(rtc, mc146818_host_time());
	ioport_add(m->io, 0x70, 2, &rtc_ports, rtc, "mc146818");
	machine_add(m, &rtc->base);
	return rtc;
}

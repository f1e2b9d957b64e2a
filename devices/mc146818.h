/* The MC146818A real-time clock and its 128 bytes of CMOS memory. */
#ifndef GANNET_DEVICES_MC146818_H
#define GANNET_DEVICES_MC146818_H

#include "core/machine.h"

struct mc146818;

/** mc146818_create - ports 0x70/0x71; time starts at the host's UTC; @m owns it
 *  @irq8: level of its IRQ pin */
struct mc146818 *mc146818_create(struct machine *m, const struct irq_line *irq8,
				 struct error *err);

/** mc146818_set_cmos - put a byte into CMOS memory; @index 0x0e to 0x7f */
void mc146818_set_cmos(struct mc146818 *rtc, uint8_t index, uint8_t value);
uint8_t mc146818_cmos(const struct mc146818 *rtc, uint8_t index);

/** mc146818_set_time - the clock shows @utc_ns (ns since 1970, UTC) now */
void mc146818_set_time(struct mc146818 *rtc, int64_t utc_ns);

/** mc146818_time - what it shows, if it runs: ns since 1970 */
int64_t mc146818_time(const struct mc146818 *rtc);

/** mc146818_host_time - the host's UTC, ns since 1970 */
int64_t mc146818_host_time(void);

#endif

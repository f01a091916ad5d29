/** Points in time as files have them: seconds since 1970, which may be negative, and nanoseconds of that second. */

/** Whether the first is later than the second. */
export function isLater(sec: number, nsec: number, thanSec: number, thanNsec: number): boolean {
  return sec > thanSec || (sec === thanSec && nsec > thanNsec);
}

import { checkTimes, type CheckedDomain, type SlotProgress } from './check-times';
import { offsetOf, slotOf, youngSlot } from './cycle';

const hour = 3_600_000;
const minute = 60_000;
const interval = 6 * hour;
const id = 'mdom_cl0000000000000000000000001';
const slot = slotOf(id);
/** The time of the domain's slot in a cycle that starts at noon in the past. */
const cycle = Math.floor(Date.parse('2026-04-15T12:00:00Z') / interval) * interval;
const turn = cycle + offsetOf(slot, interval);
const at = (time: number | null) => (time === null ? null : new Date(time));

const domain = (changed: Partial<CheckedDomain> = {}): CheckedDomain => ({
  id,
  status: 'verified',
  createdAt: new Date(turn - 24 * hour),
  verifiedAt: new Date(turn - 23 * hour),
  checkedAt: new Date(turn - 23 * hour),
  ...changed,
});
const times = (changed: Partial<CheckedDomain>, now: number, closed?: SlotProgress, young?: number) =>
  checkTimes(
    domain(changed),
    new Map([
      ...(closed ? [[slot, closed] as const] : []),
      ...(young === undefined ? [] : [[youngSlot, { cycle: 0, at: young }] as const]),
    ]),
    now,
    interval,
  );
const closed = { cycle, at: turn + 5_000 };

describe('when a domain was, and will be, looked at', () => {
  it('follows from its slot, although a healthy look writes nothing', () =>
    expect(times({}, turn + hour, closed)).toEqual({
      lastCheckedAt: at(turn + 5_000),
      nextCheckAt: at(turn + interval),
    }));
  it('follows from the last recorded look when that is newer', () =>
    expect(times({ checkedAt: new Date(turn + hour) }, turn + 2 * hour, closed).lastCheckedAt).toEqual(
      at(turn + hour),
    ));
  it('is now when its slot is due and late', () => {
    expect(times({}, turn + interval + minute, closed).nextCheckAt).toEqual(at(turn + interval + minute));
    expect(times({}, turn + minute).nextCheckAt).toEqual(at(turn + minute));
  });
  it('is half an interval after a late look at the earliest, as the slot is claimed', () => {
    const late = { cycle, at: turn + 5 * hour };
    expect(times({}, turn + 5 * hour, late).nextCheckAt).toEqual(at(turn + 8 * hour));
  });
  it('does not follow from a slot that was completed before the domain was added', () => {
    const createdAt = new Date(turn + minute);
    const fresh = { createdAt, verifiedAt: null, checkedAt: null, status: 'pending' } as const;
    expect(times(fresh, turn + 90_000, closed, turn + minute).lastCheckedAt).toBeNull();
  });
  it('follows from a slot in which the domain was certain to be watched', () => {
    const added = (beforeMs: number) =>
      times({ createdAt: new Date(turn - beforeMs), checkedAt: null }, turn + minute, closed);
    expect(added(minute).lastCheckedAt).toEqual(at(turn + 5_000));
    expect(added(minute - 1).lastCheckedAt).toBeNull();
    // In a short cycle that is sooner: a tenth of it.
    const second = 1_000;
    const short = (beforeMs: number) => {
      const [began, now] = [cycle + offsetOf(slot, 10 * second), cycle + 20 * second];
      const of = domain({ createdAt: new Date(began - beforeMs), checkedAt: null });
      return checkTimes(of, new Map([[slot, { cycle, at: began + 1 }]]), now, 10 * second).lastCheckedAt;
    };
    expect([short(second), short(second - 1)]).toEqual([at(cycle + offsetOf(slot, 10 * second) + 1), null]);
  });
  it('follows the young ages of a domain that was never verified', () => {
    const createdAt = new Date(turn + hour);
    const fresh = { createdAt, verifiedAt: null, checkedAt: null, status: 'pending' } as const;
    const after = (minutes: number) => turn + hour + minutes * minute;
    expect(times(fresh, after(0), closed, after(0))).toEqual({ lastCheckedAt: null, nextCheckAt: at(after(1)) });
    expect(times(fresh, after(1), closed, after(1))).toEqual({
      lastCheckedAt: at(after(1)),
      nextCheckAt: at(after(2)),
    });
    expect(times({ ...fresh, status: 'deleting' }, after(1), closed, after(1)).lastCheckedAt).toBeNull();
    expect(times(fresh, after(1.5), closed, after(1.5))).toEqual({
      lastCheckedAt: at(after(1)),
      nextCheckAt: at(after(2)),
    });
    expect(times(fresh, after(11), closed, after(11)).nextCheckAt).toEqual(at(after(30)));
    expect(times(fresh, after(31), closed, after(31))).toEqual({
      lastCheckedAt: at(after(30)),
      nextCheckAt: at(turn + interval),
    });
    // The schedulers are late, and make the looks that they have missed at once.
    expect(times(fresh, after(3), closed, after(0)).nextCheckAt).toEqual(at(after(3)));
    // The schedulers were away for longer than the greatest age, and do not go back that far.
    expect(times(fresh, after(120), closed, after(0)).nextCheckAt).toEqual(at(turn + interval));
  });
  it('counts no young age from before a domain was to receive mail too', () => {
    const createdAt = new Date(turn + hour);
    const receivingSince = new Date(turn + hour + 20 * minute);
    const upgraded = { createdAt, receivingSince, verifiedAt: null, checkedAt: null, status: 'pending' } as const;
    const now = turn + hour + 21 * minute;
    expect(times(upgraded, now, closed, now)).toEqual({
      lastCheckedAt: null,
      nextCheckAt: at(turn + hour + 30 * minute),
    });
    const atItsAge = new Date(turn + hour + 30 * minute);
    const then = turn + hour + 31 * minute;
    expect(times({ ...upgraded, receivingSince: atItsAge }, then, closed, then).lastCheckedAt).toBeNull();
  });
  it('ignores the young ages of a domain that was verified before', () =>
    expect(times({ status: 'pending', createdAt: new Date(turn) }, turn + 90_000, closed, turn).nextCheckAt).toEqual(
      at(turn + interval),
    ));
  it('is null for a domain that failed or is being deleted, which cycles leave out', () => {
    for (const status of ['failed', 'deleting'] as const)
      expect(times({ status }, turn + hour, closed)).toEqual({
        lastCheckedAt: at(turn - 23 * hour),
        nextCheckAt: null,
      });
  });
  it('is never in the past', () => {
    for (let hours = 0; hours < 48; hours++) {
      const now = turn + hours * hour;
      expect(times({}, now, closed, now).nextCheckAt!.getTime()).toBeGreaterThanOrEqual(now);
    }
  });
});

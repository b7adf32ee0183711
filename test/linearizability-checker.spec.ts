import fc from 'fast-check';
import { nameObject, staleLists, withSharedLooks, type NameOperation, type Shown } from './support/domain-history';
import { linearize, type Operation, type SequentialObject } from './support/linearizability';
import { numbers } from './support/numbers';

const name = 'mail.acme.com';
type Body = {
  readonly [Kind in NameOperation['kind']]: Omit<NameOperation & { kind: Kind }, keyof Operation | 'name' | 'client'>;
}[NameOperation['kind']];
/** Makes an operation of a client between two times; without an end it was never answered. */
const op = (from: number, until: number | undefined, body: Body): NameOperation => ({
  name,
  client: 0,
  invokedAt: from,
  answeredAt: until ?? Infinity,
  ...body,
});
const shown = (id: string, status = 'pending', deleting = false): Shown => ({ id, status, deleting });
const verdict = (...history: NameOperation[]) => linearize(history, nameObject(history)).is;

const added = (from: number, until: number, id: string, team = 'a') =>
  op(from, until, { kind: 'add', team, answer: { id } });
const held = (from: number, until: number, team = 'b') => op(from, until, { kind: 'add', team, answer: 'held' });
const lost = (from: number, team = 'a') => op(from, undefined, { kind: 'add', team, answer: 'unknown' });
const read = (from: number, until: number, id: string, answer: 'absent' | Shown, team = 'a') =>
  op(from, until, { kind: 'get', team, id, answer });
const list = (from: number, until: number, answer: 'absent' | Shown, team = 'a') =>
  op(from, until, { kind: 'list', team, answer });
const placed = (from: number, until: number, id: string, team = 'a') => op(from, until, { kind: 'place', team, id });
const verified = (from: number, until: number, id: string, status: string, team = 'a') =>
  op(from, until, { kind: 'verify', team, id, answer: { status } });
const deleted = (from: number, until: number, id: string, answer: 'deleted' | 'absent' = 'deleted', team = 'a') =>
  op(from, until, { kind: 'delete', team, id, answer });
const deletionLost = (from: number, id: string, team = 'a') =>
  op(from, undefined, { kind: 'delete', team, id, answer: 'unknown' });

describe('a history of one name that is linearizable', () => {
  it.each<[string, NameOperation[]]>([
    [
      'one life',
      [
        added(0, 1, 'x'),
        placed(2, 3, 'x'),
        verified(4, 5, 'x', 'verified'),
        deleted(6, 7, 'x'),
        read(8, 9, 'x', 'absent'),
      ],
    ],
    ['an add that is refused while another one is under way', [added(0, 5, 'x'), held(1, 2), list(3, 4, 'absent')]],
    ['a read during the add', [added(0, 5, 'x'), list(1, 2, shown('x')), read(3, 4, 'x', shown('x'))]],
    [
      'a deletion that is seen to be under way',
      [added(0, 1, 'x'), deleted(2, 9, 'x'), read(3, 4, 'x', shown('x', 'pending', true)), held(5, 6)],
    ],
    ['an add without an answer, which was done', [lost(0), held(1, 2), list(3, 4, shown('x'))]],
    ['an add without an answer, which was not', [lost(0), added(1, 2, 'x', 'b'), list(3, 4, 'absent')]],
    [
      'an add without an answer, which is done much later',
      [
        lost(0),
        list(1, 2, 'absent'),
        added(3, 4, 'y', 'b'),
        deleted(5, 6, 'y', 'deleted', 'b'),
        list(7, 8, shown('x')),
      ],
    ],
    [
      'a deletion without an answer, which was done in part',
      [added(0, 1, 'x'), deletionLost(2, 'x'), read(3, 4, 'x', shown('x', 'pending', true)), held(5, 6)],
    ],
    [
      'a name that two teams have one after the other',
      [added(0, 1, 'x'), deleted(2, 3, 'x'), added(4, 5, 'y', 'b'), list(6, 7, 'absent'), list(6, 7, shown('y'), 'b')],
    ],
    [
      'a verification that looked before the records were placed',
      [
        added(0, 1, 'x'),
        verified(2, 7, 'x', 'pending'),
        placed(3, 4, 'x'),
        verified(5, 6, 'x', 'verified'),
        read(8, 9, 'x', shown('x')),
      ],
    ],
    [
      'two deletions of the same domain',
      [added(0, 1, 'x'), deleted(2, 5, 'x'), deleted(3, 6, 'x'), deleted(7, 8, 'x', 'absent')],
    ],
  ])('%s', (_, history) => {
    expect(verdict(...history)).toBe('linearizable');
    expect(staleLists(history)).toEqual([]);
  });
});

describe('a history of one name that is not linearizable', () => {
  it.each<[string, NameOperation[]]>([
    ['two teams that both get it', [added(0, 5, 'x'), added(1, 6, 'y', 'b')]],
    ['a refusal of a name that nobody has', [list(0, 1, 'absent'), held(2, 3)]],
    ['a read that does not find what was added', [added(0, 1, 'x'), read(2, 3, 'x', 'absent')]],
    ['a list without what was added', [added(0, 1, 'x'), list(2, 3, 'absent')]],
    ['a list with what was deleted', [added(0, 1, 'x'), deleted(2, 3, 'x'), list(4, 5, shown('x'))]],
    ['a list that is older than one before', [added(0, 9, 'x'), list(1, 2, shown('x')), list(3, 4, 'absent')]],
    ['a refusal after the deletion was answered', [added(0, 1, 'x'), deleted(2, 3, 'x'), held(4, 5)]],
    [
      'a domain that comes back',
      [added(0, 1, 'x'), deletionLost(2, 'x'), list(3, 4, 'absent'), list(5, 6, shown('x'))],
    ],
    [
      'a verification that is forgotten',
      [added(0, 1, 'x'), placed(2, 3, 'x'), verified(4, 5, 'x', 'verified'), read(6, 7, 'x', shown('x'))],
    ],
    ['a verification without records', [added(0, 1, 'x'), verified(2, 3, 'x', 'verified')]],
    ['a domain that another team sees', [added(0, 1, 'x'), list(2, 3, shown('x'), 'b')]],
    ['one lost add that is two domains', [lost(0), list(1, 2, shown('x')), list(3, 4, shown('y'))]],
    ['a deletion of what was not deleted', [added(0, 1, 'x'), deleted(2, 3, 'x', 'absent')]],
  ])('%s', (_, history) => {
    expect(verdict(...history)).toBe('not linearizable');
  });

  it('names the operations that fit nowhere', () => {
    const wrong = list(2, 3, 'absent');
    const history = [added(0, 1, 'x'), wrong];
    expect(linearize(history, nameObject(history)).stuck).toEqual([wrong]);
  });

  it('is found by the lists alone, where these are older than an answer', () => {
    expect(staleLists([added(0, 1, 'x'), list(2, 3, 'absent')])).toHaveLength(1);
    expect(staleLists([added(0, 1, 'x'), deleted(2, 3, 'x'), list(4, 5, shown('x'))])).toHaveLength(1);
  });
});

it('verifications of one domain at the same time may share the look of the first', () => {
  const history = [added(0, 1, 'x'), verified(2, 8, 'x', 'pending'), placed(3, 4, 'x'), verified(5, 9, 'x', 'pending')];
  expect(verdict(...history)).toBe('not linearizable');
  expect(verdict(...withSharedLooks(history))).toBe('linearizable');
});

it('a search that takes too long decides nothing', () => {
  const history = Array.from({ length: 12 }, () => lost(0)).concat(list(1, 2, shown('x'), 'b'));
  expect(linearize(history, nameObject(history), 10).is).toBe('undecided');
});

/** Runs clients on a store that does one thing at a time, and gives what they see. */
function lived(seed: number, losing: number): NameOperation[] {
  const next = numbers(seed);
  const pick = <T>(all: readonly T[]): T => all[Math.floor(next() * all.length)]!;
  let holder: { id: string; team: string; is: string; isVerified: boolean } | null = null;
  let owner = '';
  const signed = new Set<string>();
  const history: NameOperation[] = [];
  const moments: { at: number; act: () => void }[] = [];
  const ids: { id: string; team: string; from: number }[] = [];
  let made = 0;
  const is = (id: string, ...states: string[]) => holder?.id === id && states.includes(holder.is);
  const show = (team: string): 'absent' | Shown =>
    !holder || holder.team !== team || holder.is === 'adding'
      ? 'absent'
      : shown(holder.id, holder.isVerified && holder.is === 'live' ? 'verified' : 'pending', holder.is === 'deleting');

  for (let client = 0; client < 3; client++) {
    const team = client === 0 ? 'b' : 'a';
    const ask = (from: number, count: number): void => {
      if (count === 0) return;
      const [first, second, until] = [from + next() * 5, from + 5 + next() * 5, from + 10 + next() * 5];
      const isLost = next() < losing;
      const finish = (body: Body, unknown?: Body) => {
        const isUnknown = isLost && unknown !== undefined;
        history.push({ ...op(from, isUnknown ? undefined : until, isUnknown ? unknown : body), client });
        ask(until + next() * 3, count - 1);
      };
      const mine = ids.filter((each) => each.team === team && each.from < from);
      const kind =
        mine.length === 0 ? pick(['add', 'list']) : pick(['add', 'list', 'get', 'place', 'verify', 'delete']);
      const { id } = mine.length > 0 ? pick(mine) : { id: '' };
      if (kind === 'add')
        moments.push({
          at: first,
          act: () => {
            if (holder) return finish({ kind: 'add', team, answer: 'held' });
            const own = `d${(made += 1)}`;
            holder = { id: own, team, is: 'adding', isVerified: false };
            moments.push({
              at: second,
              act: () => {
                holder!.is = 'live';
                if (!isLost) ids.push({ id: own, team, from: until });
                finish({ kind: 'add', team, answer: { id: own } }, { kind: 'add', team, answer: 'unknown' });
              },
            });
          },
        });
      else if (kind === 'list')
        moments.push({ at: first, act: () => finish({ kind: 'list', team, answer: show(team) }) });
      else if (kind === 'get')
        moments.push({
          at: first,
          act: () => {
            const answer = show(team);
            finish({ kind: 'get', team, id, answer: answer !== 'absent' && answer.id === id ? answer : 'absent' });
          },
        });
      else if (kind === 'place')
        moments.push({
          at: first,
          act: () => {
            owner = team;
            signed.add(id);
            finish({ kind: 'place', team, id });
          },
        });
      else if (kind === 'verify')
        moments.push({
          at: first,
          act: () => {
            if (is(id, 'deleting')) return finish({ kind: 'verify', team, id, answer: 'deleting' });
            if (!is(id, 'live')) return finish({ kind: 'verify', team, id, answer: 'absent' });
            const isRight = owner === team && signed.has(id);
            moments.push({
              at: second,
              act: () => {
                if (is(id, 'deleting')) return finish({ kind: 'verify', team, id, answer: 'deleting' });
                if (!is(id, 'live')) return finish({ kind: 'verify', team, id, answer: 'absent' });
                holder!.isVerified = isRight;
                const status = isRight ? 'verified' : 'pending';
                finish(
                  { kind: 'verify', team, id, answer: { status } },
                  { kind: 'verify', team, id, answer: 'unknown' },
                );
              },
            });
          },
        });
      else
        moments.push({
          at: first,
          act: () => {
            if (!is(id, 'live', 'deleting')) return finish({ kind: 'delete', team, id, answer: 'absent' });
            holder!.is = 'deleting';
            moments.push({
              at: second,
              act: () => {
                if (is(id, 'deleting')) holder = null;
                finish(
                  { kind: 'delete', team, id, answer: 'deleted' },
                  { kind: 'delete', team, id, answer: 'unknown' },
                );
              },
            });
          },
        });
    };
    ask(client, 8);
  }
  while (moments.length > 0) {
    moments.sort((a, b) => a.at - b.at);
    moments.shift()!.act();
  }
  return history;
}

const seeds = fc.integer({ min: 1, max: 1_000_000 });

it('what clients see of a store that does one thing at a time is linearizable', () => {
  const property = fc.property(seeds, fc.constantFrom(0, 0.2), (seed, losing) => {
    const history = lived(seed, losing);
    expect(verdict(...history)).toBe('linearizable');
    expect(staleLists(history)).toEqual([]);
  });
  fc.assert(property, { numRuns: 500 });
});

it('and is not with anything added that such a store cannot do', () => {
  const after = 100_000;
  const wrongs: ((history: readonly NameOperation[]) => NameOperation[])[] = [
    () => [added(after, after + 1, 'z1'), added(after + 2, after + 3, 'z2')],
    () => [
      added(after, after + 1, 'z1'),
      list(after + 2, after + 3, 'absent'),
      list(after + 4, after + 5, shown('z1')),
    ],
    () => [added(after, after + 1, 'z1'), read(after + 2, after + 3, 'z1', shown('z1', 'verified'))],
    () => [list(after, after + 1, 'absent'), list(after, after + 1, 'absent', 'b'), held(after + 2, after + 3)],
    (history) =>
      history.flatMap((each) => (each.kind === 'add' && typeof each.answer === 'object' ? [each] : [])).slice(0, 1),
  ];
  const property = fc.property(seeds, fc.constantFrom(...wrongs), (seed, wrong) => {
    const history = lived(seed, 0);
    const more = wrong(history);
    fc.pre(more.length > 0);
    expect(verdict(...history, ...more)).toBe('not linearizable');
  });
  fc.assert(property, { numRuns: 500 });
});

describe('the search', () => {
  type Register = Operation & { readonly write?: number; readonly read?: number };
  const register: SequentialObject<number, Register> = {
    initial: 0,
    steps: ({ answeredAt, read }) => ({
      most: 1,
      beforeAnswer: answeredAt === Infinity ? 0 : 1,
      isRead: read !== undefined,
    }),
    next: (state, { write, read }) => (write !== undefined ? [write] : read === state ? [state] : []),
  };
  /** Tries every order of every choice of the unanswered operations. */
  const byAllOrders = (ops: readonly Register[], done: readonly Register[] = [], state = 0): boolean => {
    if (ops.every(({ answeredAt }) => answeredAt === Infinity)) return true;
    return ops.some((each) => {
      const others = ops.filter((other) => other !== each);
      if (others.some(({ answeredAt }) => answeredAt < each.invokedAt)) return false;
      if (each.read !== undefined && each.read !== state) return false;
      return byAllOrders(others, [...done, each], each.write ?? state);
    });
  };
  const value = fc.nat(2);
  const operation = fc
    .tuple(fc.nat(20), fc.integer({ min: 1, max: 12 }), value, fc.boolean(), fc.nat(5))
    .map(([from, takes, value, isWrite, answers]): Register => ({
      invokedAt: from,
      answeredAt: answers === 0 && isWrite ? Infinity : from + takes,
      ...(isWrite ? { write: value } : { read: value }),
    }));

  it('agrees with all orders, one by one, of what happens to a register', () => {
    const verdicts = { linearizable: 0, 'not linearizable': 0, undecided: 0 };
    const property = fc.property(fc.array(operation, { minLength: 2, maxLength: 7 }), (history) => {
      const { is } = linearize(history, register);
      verdicts[is] += 1;
      expect(is).toBe(byAllOrders(history) ? 'linearizable' : 'not linearizable');
    });
    fc.assert(property, { numRuns: 2_000 });
    expect(Math.min(verdicts.linearizable, verdicts['not linearizable'])).toBeGreaterThan(200);
    expect(verdicts.undecided).toBe(0);
  });
});

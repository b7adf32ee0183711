/**
 * One name as teams see it who add, read, verify and delete it at the same time, as a sequential object for
 * `linearize`, by `docs/architecture.md` and `docs/http.md`. Pure.
 */
import type { Operation, SequentialObject } from './linearizability';

/** What is shown of a domain. */
export interface Shown {
  readonly id: string;
  readonly status: string;
  readonly deleting: boolean;
}

/**
 * What a client asked for about one name, and what it was answered. `unknown`: nothing, or that it failed for a while,
 * so that it may have been done. `held`: the name is somebody's, or is being added or deleted.
 */
export type NameOperation = Operation & { readonly name: string; readonly client: number; readonly team: string } & (
    | { readonly kind: 'add'; readonly answer: 'held' | 'failed' | 'unknown' | { readonly id: string } }
    | { readonly kind: 'get'; readonly id: string; readonly answer: 'absent' | Shown }
    /** What a list of the team shows under the name. */
    | { readonly kind: 'list'; readonly answer: 'absent' | Shown }
    /** All records of the domain are placed in the DNS. */
    | { readonly kind: 'place'; readonly id: string }
    | {
        readonly kind: 'verify';
        readonly id: string;
        readonly answer: 'absent' | 'deleting' | 'unknown' | { readonly status: string };
      }
    | { readonly kind: 'delete'; readonly id: string; readonly answer: 'absent' | 'deleted' | 'unknown' }
  );

interface Holder {
  /** The id of the domain; `?` and a number where the answer to its add has not come. */
  readonly who: string;
  readonly team: string;
  readonly is: 'adding' | 'live' | 'deleting';
  readonly isVerified: boolean;
}

interface NameState {
  readonly holder: Holder | null;
  /** The team whose ownership record stands in the DNS, and the domains whose DKIM records do. */
  readonly owner: string | null;
  readonly signed: readonly string[];
  /** What verifications under way have seen, by their index: whether all was right. */
  readonly looks: Readonly<Record<string, boolean>>;
  /** The ids of domains whose add was never answered, as reads have shown them. */
  readonly ids: Readonly<Record<string, string>>;
}

/** @param history all operations about the name. */
export function nameObject(history: readonly NameOperation[]): SequentialObject<NameState, NameOperation> {
  const known = new Set(
    history.flatMap((op) => (op.kind === 'add' && typeof op.answer === 'object' ? [op.answer.id] : [])),
  );

  /** Gives the state in which the holder is known to be this domain; undefined where it is another one. */
  const ifHolder = (state: NameState, id: string): NameState | undefined => {
    const { holder, ids } = state;
    if (!holder) return undefined;
    if (!holder.who.startsWith('?')) return holder.who === id ? state : undefined;
    if (ids[holder.who] !== undefined) return ids[holder.who] === id ? state : undefined;
    const isTaken = known.has(id) || Object.values(ids).includes(id);
    return isTaken ? undefined : { ...state, ids: { ...ids, [holder.who]: id } };
  };
  const isVisible = ({ holder }: NameState): boolean => holder !== null && holder.is !== 'adding';
  const become = (state: NameState, changes: Partial<Holder>): NameState => ({
    ...state,
    holder: { ...state.holder!, ...changes },
  });
  const isRight = ({ holder, owner, signed }: NameState, id: string): boolean =>
    owner === holder!.team && signed.includes(id);
  const shows = (state: NameState, { id, status, deleting }: Shown, team: string): NameState[] => {
    const found = ifHolder(state, id);
    if (!found || !isVisible(found)) return [];
    const holder = found.holder!;
    const isSame =
      holder.team === team &&
      deleting === (holder.is === 'deleting') &&
      status === (holder.isVerified && !deleting ? 'verified' : 'pending');
    return isSame ? [found] : [];
  };
  /** Whether a domain of a team is certainly to be seen. */
  const isSeen = (state: NameState, id: string): boolean => {
    const { holder, ids } = state;
    return isVisible(state) && (holder!.who === id || ids[holder!.who] === id);
  };

  function add(state: NameState, op: NameOperation & { kind: 'add' }, index: number, step: number): NameState[] {
    const { answer, team } = op;
    if (answer === 'held') return state.holder ? [state] : [];
    const who = typeof answer === 'object' ? answer.id : `?${index}`;
    if (step === 0) return state.holder ? [] : [{ ...state, holder: { who, team, is: 'adding', isVerified: false } }];
    const { holder } = state;
    if (holder?.who !== who || holder.is !== 'adding') return [];
    const [appeared, freed] = [become(state, { is: 'live' }), { ...state, holder: null }];
    if (typeof answer === 'object') return [appeared];
    return answer === 'failed' ? [freed] : [appeared, freed];
  }

  function verify(state: NameState, op: NameOperation & { kind: 'verify' }, index: number, step: number): NameState[] {
    const { answer, id } = op;
    if (answer === 'absent') return isSeen(state, id) ? [] : [state];
    const found = ifHolder(state, id);
    if (answer === 'deleting') return found?.holder?.is === 'deleting' ? [found] : [];
    if (step === 0) {
      if (!found || !isVisible(found)) return [];
      return [{ ...found, looks: { ...found.looks, [index]: isRight(found, id) } }];
    }
    const { [index]: wasRight, ...looks } = state.looks;
    if (found?.holder?.is !== 'live') return answer === 'unknown' ? [{ ...state, looks }] : [];
    const status = wasRight ? 'verified' : 'pending';
    if (answer !== 'unknown' && answer.status !== status) return [];
    return [{ ...become(found, { isVerified: wasRight === true }), looks }];
  }

  function remove(state: NameState, op: NameOperation & { kind: 'delete' }, step: number): NameState[] {
    const { answer, id } = op;
    if (answer === 'absent') return isSeen(state, id) ? [] : [state];
    const found = ifHolder(state, id);
    if (step === 0) return found && isVisible(found) ? [become(found, { is: 'deleting' })] : [];
    // Another request may have waited for the same deletion.
    return found?.holder?.is === 'deleting' ? [{ ...found, holder: null }] : found ? [] : [state];
  }

  return {
    initial: { holder: null, owner: null, signed: [], looks: {}, ids: {} },
    steps(op) {
      const answer = 'answer' in op ? op.answer : undefined;
      const isRead = { most: 1, beforeAnswer: 1, isRead: true };
      const isRefusal = answer === 'absent' || answer === 'held' || answer === 'deleting';
      if (isRefusal || op.kind === 'get' || op.kind === 'list') return isRead;
      if (op.kind === 'place') return { ...isRead, isRead: false };
      // What failed is rolled back, before the answer or after it.
      const beforeAnswer = answer === 'unknown' ? 0 : answer === 'failed' ? 1 : 2;
      return { most: 2, beforeAnswer, isRead: false };
    },
    next(state, op, index, step) {
      switch (op.kind) {
        case 'add':
          return add(state, op, index, step);
        case 'get':
          if (op.answer !== 'absent') return shows(state, op.answer, op.team);
          return isSeen(state, op.id) && state.holder!.team === op.team ? [] : [state];
        case 'list':
          if (op.answer !== 'absent') return shows(state, op.answer, op.team);
          return isVisible(state) && state.holder!.team === op.team ? [] : [state];
        case 'place':
          return [{ ...state, owner: op.team, signed: [...new Set([...state.signed, op.id])].sort() }];
        case 'verify':
          return verify(state, op, index, step);
        case 'delete':
          return remove(state, op, step);
      }
    },
  };
}

/**
 * Lets each verification begin with the first of those that it may have shared a look with: requests for one domain at
 * the same time share one (`docs/http.md`).
 */
export function withSharedLooks(history: readonly NameOperation[]): NameOperation[] {
  const begun: { id: string; from: number; until: number }[] = [];
  return [...history]
    .sort((a, b) => a.invokedAt - b.invokedAt)
    .map((op) => {
      if (op.kind !== 'verify') return op;
      const shared = begun.find(({ id, until }) => id === op.id && until >= op.invokedAt);
      if (!shared) {
        begun.push({ id: op.id, from: op.invokedAt, until: op.answeredAt });
        return op;
      }
      shared.until = Math.max(shared.until, op.answeredAt);
      return { ...op, invokedAt: shared.from };
    });
}

/**
 * Finds the lists that are older than an answer given before they were asked for: without a domain that was added, or
 * with one that was deleted. Weaker than `linearize`, and simpler.
 */
export function staleLists(history: readonly NameOperation[]): string[] {
  const lists = history.filter((op) => op.kind === 'list');
  return history.flatMap((op) => {
    if (op.kind === 'add' && typeof op.answer === 'object') {
      const { id } = op.answer;
      const goesAt = Math.min(
        ...history.map((other) => (other.kind === 'delete' && other.id === id ? other.invokedAt : Infinity)),
      );
      return lists.flatMap((list) => {
        const isOwed = list.team === op.team && list.name === op.name;
        if (!isOwed || list.invokedAt <= op.answeredAt || list.answeredAt >= goesAt) return [];
        return list.answer !== 'absent' && list.answer.id === id ? [] : [`a list is without ${id}, which was added`];
      });
    }
    if (op.kind === 'delete' && op.answer === 'deleted')
      return lists.flatMap((list) =>
        list.answer !== 'absent' && list.answer.id === op.id && list.invokedAt > op.answeredAt
          ? [`a list has ${op.id}, which was deleted`]
          : [],
      );
    return [];
  });
}

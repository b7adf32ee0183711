import { setImmediate as endOfTurn } from 'node:timers/promises';

/** The most keys of one query. */
const most = 100;

interface Gathering<Key, Value> {
  readonly keys: Map<string, Key>;
  readonly found: Promise<ReadonlyMap<string, Value>>;
}

/**
 * Reads by key, with one query for all that is asked for in one turn of the event loop, such as by requests that have
 * come in together. Nothing is kept: what is asked for in the next turn is read anew. A query that fails does so for
 * all who have asked.
 */
export class Together<Key, Value> {
  private gathering: Gathering<Key, Value> | undefined;

  /**
   * @param textOf what two keys have in common that are the same.
   * @param read gives the values by the texts of their keys; a key without a value is absent.
   */
  constructor(
    private readonly textOf: (key: Key) => string,
    private readonly read: (keys: readonly Key[]) => Promise<ReadonlyMap<string, Value>>,
  ) {}

  /** Gives the value of a key; undefined where there is none. Those who ask together share one object. */
  async of(key: Key): Promise<Value | undefined> {
    const text = this.textOf(key);
    const { keys, found } = (this.gathering ??= this.gather());
    keys.set(text, key);
    if (keys.size === most) this.gathering = undefined;
    return (await found).get(text);
  }

  private gather(): Gathering<Key, Value> {
    const keys = new Map<string, Key>();
    const found = endOfTurn().then(() => {
      if (this.gathering?.keys === keys) this.gathering = undefined;
      return this.read([...keys.values()]);
    });
    return { keys, found };
  }
}

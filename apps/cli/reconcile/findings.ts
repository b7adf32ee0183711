/** What is compared with the log. */
export const areas = ['ses', 'mail-server', 'kafka', 'read-models'] as const;
export type Area = (typeof areas)[number];

/**
 * How something differs from the log. `missing`: the log has it, and it is not there. `different`: both have it.
 * `left`: it is there, and the log says that it has ended. `lost`: it is there, and of a history that a restore has
 * ended. `foreign`: it is there, the log has never known it, and nothing here changes it.
 */
export type Kind = 'missing' | 'different' | 'left' | 'lost' | 'foreign';

export interface Difference {
  readonly area: Area;
  readonly kind: Kind;
  /** What it is about: the name of a domain, the id of a mailbox, a table. */
  readonly what: string;
  /** What the log says, and what is there, in words. */
  readonly log: string;
  readonly there: string;
}

/** What can be done about a difference; each may be done again. */
export interface Repairs {
  /** Has what is outside become what the log says. */
  readonly fromLog?: () => Promise<void>;
  /** Keeps what is outside for whoever adds it again. */
  readonly adopt?: () => Promise<void>;
  readonly delete?: () => Promise<void>;
}

/** Which repairs are asked for. */
export interface Asked {
  readonly fromLog: boolean;
  readonly lost: 'keep' | 'adopt' | 'delete';
}

/** What was found and done. */
export interface Outcome {
  /** How many there are of each kind. */
  readonly counts: Readonly<Partial<Record<Area, Partial<Record<Kind, number>>>>>;
  /** The first of them. */
  readonly shown: readonly (Difference & { readonly done?: string })[];
  /** Those for which nothing was done, without what is foreign. */
  readonly remaining: number;
  readonly repaired: number;
  /** What is to be known besides. */
  readonly notes: readonly string[];
}

/** Gathers differences as they are found, and has each repaired as it was asked for. */
export class Findings {
  private readonly counts: Partial<Record<Area, Partial<Record<Kind, number>>>> = {};
  private readonly shown: (Difference & { readonly done?: string })[] = [];
  private readonly notes: string[] = [];
  private remaining = 0;
  private repaired = 0;

  /** @param limit how many are shown; all are counted. */
  constructor(
    private readonly asked: Asked,
    private readonly limit: number,
  ) {}

  async take(difference: Difference, repairs: Repairs = {}): Promise<void> {
    const { area, kind } = difference;
    const ofArea = (this.counts[area] ??= {});
    ofArea[kind] = (ofArea[kind] ?? 0) + 1;
    const done = await this.repair(kind, repairs);
    if (done !== undefined) this.repaired++;
    else if (kind !== 'foreign') this.remaining++;
    if (this.shown.length < this.limit) this.shown.push({ ...difference, ...(done !== undefined && { done }) });
  }

  note(text: string): void {
    this.notes.push(text);
  }

  outcome(): Outcome {
    const { counts, shown, remaining, repaired, notes } = this;
    return { counts, shown, remaining, repaired, notes };
  }

  /** Gives what was done; undefined for nothing. */
  private async repair(kind: Kind, { fromLog, adopt, delete: remove }: Repairs): Promise<string | undefined> {
    const { lost } = this.asked;
    if (kind === 'lost' && lost === 'adopt' && adopt) return adopt().then(() => 'adopted');
    if (kind === 'lost' && lost === 'delete' && remove) return remove().then(() => 'deleted');
    if (kind !== 'lost' && this.asked.fromLog && fromLog) return fromLog().then(() => 'asked for');
    return undefined;
  }
}

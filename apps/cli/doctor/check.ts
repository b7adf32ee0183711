import type { Settings } from '@app/runtime';

/** `failed`: something does not work, or loses what was acknowledged. `skipped`: there was nothing to look at. */
export type Level = 'ok' | 'warning' | 'failed' | 'skipped';

/** One thing that a check has found. */
export interface Finding {
  readonly level: Level;
  /** What is so, and where it is not `ok`, what to do. */
  readonly message: string;
  /** Which of several it is about, such as a resolver. */
  readonly of?: string;
}

const finding =
  (level: Level) =>
  (message: string, of?: string): Finding => ({ level, message, ...(of !== undefined && { of }) });

export const ok = finding('ok');
export const warning = finding('warning');
export const failed = finding('failed');
export const skipped = finding('skipped');

export interface CheckContext<Name extends keyof Settings> {
  readonly settings: Pick<Settings, Name>;
  /** The environment that the settings are from. */
  readonly env: NodeJS.ProcessEnv;
  /** The clock of this machine, in milliseconds since the epoch. */
  readonly now: () => number;
  /** Aborts when the time of the check is over. */
  readonly signal: AbortSignal;
}

/** Looks at one part of an installation, and changes nothing. */
export interface Check<Name extends keyof Settings = keyof Settings> {
  readonly name: string;
  /** The settings that it reads. It is skipped where one of them is at fault, which is a finding of its own. */
  readonly needs: readonly Name[];
  /** Milliseconds that it may take. */
  readonly withinMs: number;
  /** What to do when it takes longer, or ends with an error that it does not expect. */
  readonly remedy: string;
  /**
   * @throws {Error} for what it does not expect.
   */
  run(context: CheckContext<Name>): Promise<readonly Finding[]>;
}

/** Gives a check the type of all: it is run with the settings that it names. */
export const check = <Name extends keyof Settings>(it: Check<Name>): Check => it;

import { mkdirSync, readFileSync, renameSync, writeFileSync, existsSync } from 'node:fs';
import { join } from 'node:path';
import { Injectable, type OnApplicationShutdown } from '@nestjs/common';

export interface CaughtMail {
  readonly id: number;
  readonly date: string;
  readonly from: string;
  /** Of the envelope. */
  readonly to: readonly string[];
  readonly subject: string;
  readonly messageId: string;
  readonly text: string;
  readonly html: string;
}

export const forcedStatuses = ['FAILED', 'TEMPORARY_FAILURE', 'NOT_STARTED'] as const;
export type ForcedStatus = (typeof forcedStatuses)[number];

export interface StoredIdentity {
  readonly name: string;
  readonly tags: readonly { Key: string; Value: string }[];
  readonly tokens: readonly string[];
  /** SES has seen all three CNAMEs at some time. */
  seen: boolean;
  /** Whatever the zone has, until the detection is restarted. */
  forced?: ForcedStatus;
}

interface Data {
  /** Name, type, values in presentation form. */
  zone: Record<string, Record<string, string[]>>;
  identities: Record<string, StoredIdentity>;
  mails: CaughtMail[];
}

/** Changes reach the disk this long after they were made, in milliseconds, or when the process stops. */
const writeAfterMs = 50;

/** All that the sandbox remembers, in one file, so that it is there at the next start. */
@Injectable()
export class SandboxState implements OnApplicationShutdown {
  // Names come from outside: a key must never be one that objects have by themselves.
  readonly data: Data = {
    zone: Object.create(null) as Data['zone'],
    identities: Object.create(null) as Data['identities'],
    mails: [],
  };
  private readonly file: string;
  private timer: NodeJS.Timeout | undefined;

  constructor(directory: string) {
    mkdirSync(directory, { recursive: true });
    this.file = join(directory, 'state.json');
    if (!existsSync(this.file)) return;
    const { zone, identities, mails } = JSON.parse(readFileSync(this.file, 'utf8')) as Data;
    Object.assign(this.data.zone, zone);
    Object.assign(this.data.identities, identities);
    this.data.mails.push(...mails);
  }

  changed(): void {
    this.timer ??= setTimeout(() => this.write(), writeAfterMs);
  }

  onApplicationShutdown(): void {
    if (this.timer) this.write();
  }

  private write(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    writeFileSync(`${this.file}.new`, JSON.stringify(this.data));
    renameSync(`${this.file}.new`, this.file);
  }
}

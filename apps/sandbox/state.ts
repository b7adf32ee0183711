import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync, existsSync } from 'node:fs';
import { join } from 'node:path';
import { Injectable, type OnApplicationShutdown } from '@nestjs/common';

export interface CaughtMail {
  readonly id: number;
  readonly date: string;
  readonly from: string;
  /** The recipients in the SMTP envelope. */
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
  /** The Region that has it; absent in the state of an earlier release, which had one for all. */
  readonly region?: string;
  tags: readonly { Key: string; Value: string }[];
  readonly tokens: readonly string[];
  /** Whether SES has found all three CNAMEs at any time. */
  seen: boolean;
  /** The status to report, whatever the zone contains, until the detection is restarted. */
  forced?: ForcedStatus;
  /** The MAIL FROM domain, and whether SES has found its MX record at any time; absent until it is set. */
  mailFrom?: { readonly domain: string; readonly onMxFailure: string; seen: boolean };
  /** The configuration set that its mail uses by default; absent where there is none. */
  configurationSet?: string;
}

/** A tenant of SES. */
export interface StoredTenant {
  readonly region: string;
  readonly name: string;
  readonly id: string;
  /** Seconds since the Unix epoch. */
  readonly createdAt: number;
  readonly tags: readonly { Key: string; Value: string }[];
  /** The time at which each resource was associated, in seconds since the Unix epoch, by its ARN. */
  readonly resources: Record<string, number>;
}

interface Data {
  /** Values in presentation form, by name and type. */
  zone: Record<string, Record<string, string[]>>;
  /** Each identity, under its `identityKey`. */
  identities: Record<string, StoredIdentity>;
  mails: CaughtMail[];
  /** Each tenant, under the `identityKey` of its name. */
  tenants: Record<string, StoredTenant>;
  /** The `identityKey` of each configuration set. */
  configurationSets: string[];
}

/** Gives the key of an identity in the state. */
export const identityKey = (region: string | undefined, name: string): string =>
  region === undefined ? name : `${region}/${name}`;

/** Milliseconds between a change and its write to the file; a stop writes at once. */
const writeAfterMs = 50;

/** Keeps the whole state of the sandbox in one file, to be read at the next start. */
@Injectable()
export class SandboxState implements OnApplicationShutdown {
  // The objects have no prototype, because their keys come from requests and may be `__proto__`.
  readonly data: Data = {
    zone: Object.create(null) as Data['zone'],
    identities: Object.create(null) as Data['identities'],
    mails: [],
    tenants: Object.create(null) as Data['tenants'],
    configurationSets: [],
  };
  private readonly file: string;
  private timer: NodeJS.Timeout | undefined;

  constructor(directory: string) {
    mkdirSync(directory, { recursive: true });
    this.file = join(directory, 'state.json');
    if (!existsSync(this.file)) return;
    const { zone, identities, mails, tenants, configurationSets } = JSON.parse(
      readFileSync(this.file, 'utf8'),
    ) as Partial<Data>;
    Object.assign(this.data.zone, zone);
    Object.assign(this.data.identities, identities);
    Object.assign(this.data.tenants, tenants);
    this.data.mails.push(...(mails ?? []));
    this.data.configurationSets.push(...(configurationSets ?? []));
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
    // The mails that were caught have links with tokens.
    rmSync(`${this.file}.new`, { force: true });
    writeFileSync(`${this.file}.new`, JSON.stringify(this.data), { mode: 0o600, flag: 'wx' });
    renameSync(`${this.file}.new`, this.file);
  }
}

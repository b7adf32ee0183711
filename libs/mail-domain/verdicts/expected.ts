import type { SesDkimStatus } from '../findings';
import type { Answer, MxRr, TxtRr } from './quorum';

/** The domain whose records are expected. */
export interface Expected {
  readonly name: string;
  readonly team: string;
  readonly dkimTokens: readonly string[];
  readonly dkimZone: string;
}

/** What each resolver said. */
export interface DnsAnswers {
  readonly mx: readonly Answer<MxRr>[];
  /** TXT at the domain, where SPF lives. */
  readonly spf: readonly Answer<TxtRr>[];
  readonly dmarc: readonly Answer<TxtRr>[];
  readonly verification: readonly Answer<TxtRr>[];
  /** TXT at the names that the SPF record leads to, as `spfQuestion` asks for them. */
  readonly spfTargets?: ReadonlyMap<string, readonly Answer<TxtRr>[]>;
}

/** `DkimAttributes.Status`, or why there is none. */
export type DkimAnswer = SesDkimStatus | 'unavailable' | 'identity_missing';

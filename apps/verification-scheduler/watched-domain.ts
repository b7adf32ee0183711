/** Describes a domain as the cycle watches it, and what it has seen of it. Pure. */
import { hash } from 'node:crypto';
import type { LiveDomain } from '@app/mail-domain';
import { defaultShard } from '@app/runtime';
import { allPass, isBroken, type Assessment, type Expected } from '@app/mail-records';

/** The data of a domain that the cycle needs: a pure function of its stream up to `version`. */
export interface WatchedDomain extends Expected {
  readonly id: string;
  /** The shard of SES that has its identity. */
  readonly sesShard: string;
  readonly status: LiveDomain['status'];
  /** Whether the domain was verified before, so that strikes count. */
  readonly lapsed: boolean;
  /** Fingerprint of the last recorded assessment; null before the first. */
  readonly look: string | null;
  readonly version: number;
}

/**
 * Hashes everything in an assessment that a customer could see. The parts are separated by NUL, which none of them
 * contains.
 */
function fingerprint({ findings, sesDkimStatus }: Assessment): string {
  let text = String(sesDkimStatus);
  for (const { check, decides, outcome, code, message, name, expected, observed } of findings)
    text += `\0${check}${decides === false ? ' (decides nothing)' : ''}\0${outcome}\0${code}\0${message}\0${name}\0${expected}\0${observed.length}\0${observed.join('\0')}`;
  return hash('sha256', text, 'base64url').slice(0, 22);
}

export const watched = (state: LiveDomain, version: number): WatchedDomain => ({
  id: state.id,
  name: state.name,
  team: state.team,
  mode: state.mode ?? 'send_receive',
  dkimTokens: state.dkimTokens,
  dkimZone: state.dkimZone,
  sesRegion: state.sesRegion,
  sesShard: state.sesShard ?? defaultShard,
  status: state.status,
  lapsed: state.status === 'pending' && state.lapsed,
  look: state.lastAssessment && fingerprint(state.lastAssessment),
  version,
});

/** Whether a look that fails takes something from a domain, so that a bad status on the list of SES is confirmed. */
export const hasSomethingToLose = ({ status, lapsed }: Pick<WatchedDomain, 'status' | 'lapsed'>): boolean =>
  status !== 'pending' || lapsed;

/**
 * Whether recording this assessment would change nothing, so that the domain's stream need not be read. The assessment
 * of a lapsed domain always changes something, since each one adds or clears a strike.
 */
export function changesNothing(domain: WatchedDomain, assessment: Assessment): boolean {
  if (domain.lapsed || domain.look !== fingerprint(assessment)) return false;
  return domain.status === 'verified' ? !isBroken(assessment.findings) : !allPass(assessment.findings);
}

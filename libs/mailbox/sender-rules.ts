/** The rules by which a domain takes mail from some senders and refuses it from others. */
import { createHash } from 'node:crypto';
import { parseSender } from './address';
import { AddressRefused } from './errors';

export interface SenderRule {
  readonly type: 'allow' | 'deny';
  /** An address, or a hostname for all addresses at it; once canonical, as `parseSender` gives it. */
  readonly pattern: string;
  /** What the customer wants to remember of it; it decides nothing. */
  readonly note: string | null;
}

/** The most rules of a domain. */
export const senderRulesLimit = 1_000;

/** Thrown for a rule that cannot be. */
export class SenderRuleRefused extends Error {
  override readonly name = 'SenderRuleRefused';
  constructor(
    /** The place of the rule in the list, from 0. */
    readonly index: number,
    message: string,
  ) {
    super(message);
  }
}

/**
 * Gives the rules in their canonical form, sorted by pattern.
 *
 * @throws {SenderRuleRefused} for a pattern that is neither an address nor a hostname, or is there twice.
 */
export function canonicalRules(rules: readonly SenderRule[]): SenderRule[] {
  const byPattern = new Map<string, SenderRule>();
  for (const [index, { type, pattern: written, note }] of rules.entries()) {
    const pattern = senderOf(written, index);
    if (byPattern.has(pattern))
      throw new SenderRuleRefused(index, `There are two rules about ${pattern}. Leave one of them out.`);
    byPattern.set(pattern, { type, pattern, note });
  }
  return [...byPattern.values()].sort((a, b) => (a.pattern < b.pattern ? -1 : 1));
}

/** Gives the SHA-256, in hexadecimal, of rules in their canonical form. */
export const rulesDigest = (rules: readonly SenderRule[]): string =>
  createHash('sha256')
    .update(JSON.stringify(rules.map(({ type, pattern, note }) => ({ type, pattern, note }))))
    .digest('hex');

function senderOf(written: string, index: number): string {
  try {
    return parseSender(written);
  } catch (error) {
    if (!(error instanceof AddressRefused)) throw error;
    throw new SenderRuleRefused(index, error.message);
  }
}

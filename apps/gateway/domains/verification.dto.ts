import { ApiProperty, ApiPropertyOptional, type ApiPropertyOptions } from '@nestjs/swagger';
import type { LiveDomain } from '@app/mail-domain';
import {
  checkNamed,
  checkNames,
  checks,
  type Check,
  dnssecStates,
  retryAllAfter,
  sesDkimStatuses,
  sesMailFromStatuses,
  type Assessment,
  type SesExplanation,
} from '@app/mail-records';
import { presentStanding, shown } from '@app/presentation';
import type { ExplainedCheck } from '@app/verification';
import { extensible } from '../http/openapi';
import { Envelope, time } from './domain.dto';
import { OperationSchema, presentOperations } from './plans.dto';

/**
 * Gives the names in the field `checks`, which are the same for every domain: a check that a domain is not asked for
 * counts as passed. The DKIM status that SES gives is a field of its own.
 */
const dnsChecks = (): string[] =>
  (checks as readonly Check[]).flatMap(({ name, authority }) => (authority === 'dns' ? name : []));

/** Gives the schema of the field `checks`. */
export function checksSchema() {
  const names = dnsChecks();
  const properties = Object.fromEntries(names.map((name) => [name, { type: 'boolean' }]));
  return { type: 'object', required: names, properties };
}

class WarningSchema {
  @ApiProperty({ example: 'mx_foreign_backup', description: 'Stable.' })
  code: string;
  @ApiProperty({ enum: ['breaking', 'warning', 'info'] })
  severity: string;
  @ApiProperty({ description: 'For people: what it is, and what to do.' })
  message: string;
}

class ExtendedErrorSchema {
  @ApiProperty({ example: 7, description: 'INFO-CODE of RFC 8914.' })
  code: number;
  @ApiProperty()
  text: string;
}

class ResolverEvidenceSchema {
  @ApiProperty({ example: 'dns.example/dns-query', description: 'The resolver that was asked.' })
  resolver: string;
  @ApiProperty({ enum: ['records', 'nodata', 'nxdomain', 'servfail', 'unreachable'] })
  answer: string;
  @ApiProperty({ type: 'integer', nullable: true, description: 'Seconds that its answer may still be cached.' })
  ttl: number | null;
  @ApiProperty({ type: 'boolean', nullable: true, description: 'Whether it has validated the answer by DNSSEC.' })
  authenticated: boolean | null;
  @ApiProperty({ type: [String], description: 'CNAMEs on the way.' })
  aliases: readonly string[];
  @ApiProperty({ type: [ExtendedErrorSchema] })
  extended_errors: readonly { readonly code: number; readonly text: string }[];
  @ApiPropertyOptional({ description: 'Why there is no answer; only of `unreachable`.' })
  reason?: string;
}

class SesEvidenceSchema {
  @ApiProperty({ type: 'string', nullable: true, example: 'host_not_found', description: 'What SES says is wrong.' })
  error_type: string | null;
  @ApiProperty({ ...time, nullable: true })
  last_checked_at: string | null;
  @ApiProperty({ ...time, description: 'Until when SES goes on looking by itself.' })
  deadline: string;
}

class DetailSchema {
  @ApiProperty(extensible(checkNames))
  check: string;
  @ApiProperty({ enum: ['pass', 'fail', 'indeterminate'] })
  outcome: string;
  @ApiProperty({
    example: 'mx_missing',
    description: 'Stable; `ok` for a plain pass. docs/verification.md lists them.',
  })
  code: string;
  @ApiProperty({
    enum: ['blocking', 'breaking', 'warning', 'info'],
    description: '`blocking`: the check fails. `breaking`: it passes, and mail suffers now.',
  })
  severity: string;
  @ApiProperty({ description: 'For people: what was found.' })
  message: string;
  @ApiProperty({ type: 'string', nullable: true, description: 'For people: what to look at; null on a pass.' })
  hint: string | null;
  @ApiProperty({ example: 'mail.acme.com', description: 'Name of the record.' })
  name: string;
  @ApiProperty({ enum: ['MX', 'TXT', 'CNAME'] })
  type: string;
  @ApiProperty({ example: '10 mail.sendmux.ai' })
  expected: string;
  @ApiProperty({ type: [String], description: 'What was there instead; empty when nothing was.' })
  observed: readonly string[];
  @ApiProperty({
    type: 'integer',
    nullable: true,
    example: 300,
    description: 'Seconds that what was observed may still be cached.',
  })
  ttl: number | null;
  @ApiProperty({ type: [WarningSchema], description: 'They never change a verdict.' })
  warnings: WarningSchema[];
  @ApiProperty({ type: [OperationSchema], description: 'What makes the check pass, in the order to apply.' })
  fix: OperationSchema[];
  @ApiProperty({ type: [ResolverEvidenceSchema], description: 'What each resolver said; none for `dkim`.' })
  resolvers: ResolverEvidenceSchema[];
  @ApiPropertyOptional({ type: SesEvidenceSchema, description: 'What Amazon SES says; only of `dkim`.' })
  ses?: SesEvidenceSchema;
  @ApiProperty({ ...time, nullable: true, description: 'When asking again can tell more; null on a pass.' })
  retry_at: string | null;
}

export class VerificationSchema {
  @ApiProperty({ enum: ['pending', 'verified', 'failed'] })
  status: string;
  @ApiProperty({ enum: sesDkimStatuses })
  ses_dkim_status: string;
  // Its `required` is that of its own fields.
  @ApiProperty({ ...checksSchema(), selfRequired: true } as ApiPropertyOptions)
  checks: Record<string, boolean>;
  @ApiProperty({ enum: [...sesMailFromStatuses, 'not_started'], description: '`not_started`: it has none.' })
  ses_mail_from_status: string;
  @ApiProperty({ enum: sesDkimStatuses, description: 'What Amazon SES says of the identity as a whole.' })
  ses_identity_verification_status: string;
  @ApiProperty({ description: 'Whether Amazon SES sends its mail.' })
  ses_verified_for_sending: boolean;
  @ApiProperty({ description: 'Whether Amazon SES signs its mail by DKIM.' })
  ses_dkim_signing_enabled: boolean;
  @ApiProperty({ ...time, description: 'When Amazon SES last answered.' })
  ses_identity_checked_at: string;
  @ApiProperty({ ...time, description: 'When the look was.' })
  checked_at: string;
  @ApiProperty({
    ...time,
    nullable: true,
    description: 'When the DNS will show what is mended now, by the TTLs of what it shows; null when all passes.',
  })
  retry_at: string | null;
  @ApiProperty({ type: 'string', enum: [...dnssecStates, null], nullable: true, description: 'Null when nobody told.' })
  dnssec: string | null;
  @ApiProperty({ type: [DetailSchema] })
  details: DetailSchema[];
}

export class VerificationEnvelope extends Envelope {
  @ApiProperty({ type: VerificationSchema })
  data: VerificationSchema;
}

/** Presents a verification with the fields of the product guide, followed by the explanation. */
export function presentVerification(
  domain: Pick<LiveDomain, 'name' | 'status' | 'sesDkimStatus' | 'sesMailFromStatus' | 'sesIdentity'>,
  { findings, dnssec }: Assessment,
  explained: readonly ExplainedCheck[],
  ses: SesExplanation | null,
  checkedAt: Date,
  sesCheckedAt = checkedAt,
): VerificationSchema {
  const passes = new Map(findings.map(({ check, outcome }) => [check, outcome === 'pass']));
  const standing = presentStanding(domain);
  const after = (seconds: number | null) =>
    seconds === null ? null : shown(new Date(checkedAt.getTime() + seconds * 1_000));
  return {
    status: domain.status,
    ses_dkim_status: domain.sesDkimStatus,
    checks: Object.fromEntries(dnsChecks().map((name) => [name, passes.get(name) ?? true])),
    ses_mail_from_status: domain.sesMailFromStatus ?? 'not_started',
    ses_identity_verification_status: standing.ses_identity_verification_status,
    ses_verified_for_sending: standing.ses_verified_for_sending,
    // Provisioning gives each identity Easy DKIM, with which SES signs unless somebody has turned that off.
    ses_dkim_signing_enabled: standing.ses_dkim_signing_enabled ?? true,
    ses_identity_checked_at: shown(sesCheckedAt),
    checked_at: shown(checkedAt),
    retry_at: after(retryAllAfter(explained)),
    dnssec: dnssec ?? null,
    details: explained.map((detail) => ({
      check: detail.check,
      outcome: detail.outcome,
      code: detail.code,
      severity: detail.severity,
      message: detail.message,
      hint: detail.hint,
      name: detail.name,
      type: detail.type,
      expected: detail.expected,
      observed: detail.observed,
      ttl: detail.ttl,
      warnings: detail.warnings.map(({ code, severity, message }) => ({ code, severity, message })),
      fix: presentOperations(detail.fix, domain.name),
      resolvers: detail.resolvers.map(({ resolver, answer, ttl, authenticated, aliases, extendedErrors, reason }) => ({
        resolver,
        answer,
        ttl: ttl ?? null,
        authenticated: authenticated ?? null,
        aliases,
        extended_errors: extendedErrors ?? [],
        ...(reason !== undefined && { reason }),
      })),
      ...(checkNamed(detail.check)?.authority === 'ses' &&
        ses && {
          ses: {
            error_type: ses.errorType,
            last_checked_at: ses.lastCheckedAt && shown(ses.lastCheckedAt),
            deadline: shown(ses.deadline),
          },
        }),
      retry_at: after(detail.retryAfter),
    })),
  };
}

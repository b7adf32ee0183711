import { domainToUnicode } from 'node:url';
import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { IsIn, IsOptional } from 'class-validator';
import {
  cut,
  escaped,
  hostOf,
  limits,
  registrableDomain,
  relativeHost,
  shownOperations,
  zoneFileFormats,
  type Operation,
  type PlanWarning,
  type Preflight,
  type ZoneFileFormat,
} from '@app/mail-records';
import { QuotaExceeded } from '@app/commands';
import type { QuotaUse } from '@app/read-model';
import type { FastifyReply } from 'fastify';
import { MetaSchema } from '../http/openapi';

export const formats = Object.keys(zoneFileFormats) as ZoneFileFormat[];

export class ZoneFileQuery {
  @ApiPropertyOptional({ enum: formats, default: 'bind', description: 'The tool that shall read it.' })
  @IsOptional()
  @IsIn(formats, { message: `"format" must be one of ${formats.join(', ')}` })
  format: ZoneFileFormat = 'bind';
}

/** Sets the headers of a zone file, as a file to keep, and gives its text. */
export function replyZoneFile(reply: FastifyReply, domain: string, format: ZoneFileFormat, text: string): string {
  const { mediaType, extension } = zoneFileFormats[format];
  void reply.headers({
    'content-type': mediaType,
    'content-disposition': `attachment; filename="${domain}.${extension}"`,
  });
  return text;
}

export class OperationSchema {
  @ApiProperty({
    enum: ['delete', 'replace', 'create', 'keep'],
    description: '`replace` takes `replaces` away and puts `values` in their place; `delete` takes `values` away.',
  })
  action: string;
  @ApiProperty({ example: 'mail.acme.com' })
  name: string;
  @ApiProperty({
    example: 'mail',
    description: 'The name relative to your registrable domain, as in `dns_records`; `@` at its top.',
  })
  host: string;
  @ApiProperty({ enum: ['MX', 'TXT', 'CNAME'] })
  type: string;
  @ApiProperty({
    type: [String],
    example: ['10 mail.sendmux.ai'],
    description:
      'Values of the same name and type that are not named here are to be left alone. In TXT, octets beyond printable ASCII, and the backslash, as `\\DDD`. A value that ends in `… (cut: N octets, SHA-256 H)` is longer than 4,096 octets, and is not whole; `… (left out: N more, SHA-256 H)` stands for further values.',
  })
  values: string[];
  @ApiProperty({ type: [String], description: 'Of a `replace`.' })
  replaces: string[];
  @ApiProperty({
    type: 'integer',
    nullable: true,
    example: 300,
    description: 'Seconds; null where nothing is written.',
  })
  ttl: number | null;
  @ApiProperty({ description: 'For people.' })
  reason: string;
}

export class PlanWarningSchema {
  @ApiProperty({ example: 'spf_too_many_lookups', description: 'Stable.' })
  code: string;
  @ApiProperty({
    enum: ['blocking', 'breaking', 'warning', 'info'],
    description:
      '`blocking`: the plan cannot make the domain verify. `breaking`: the result passes, but mail is affected.',
  })
  severity: string;
  @ApiProperty({ description: 'For people: what it is, and what to do.' })
  message: string;
}

export class DnsPlanSchema {
  @ApiProperty({ example: 'mail.acme.com' })
  domain: string;
  @ApiProperty({ example: 'acme.com', description: 'The zone that holds the records, as the DNS has it.' })
  zone: string;
  @ApiProperty({ description: 'Whether nothing is to be done: all records are in place, and nothing blocks them.' })
  complete: boolean;
  @ApiProperty({
    type: [PlanWarningSchema],
    description: 'What our own checks say of the zone once the operations are carried out. Read it before you do.',
  })
  warnings: PlanWarningSchema[];
  @ApiProperty({ type: [OperationSchema], description: 'In the order to apply.' })
  operations: OperationSchema[];
}

class Envelope {
  @ApiProperty({ enum: [true] })
  ok: boolean;
  @ApiProperty({ type: MetaSchema })
  meta: MetaSchema;
}

export class DnsPlanEnvelope extends Envelope {
  @ApiProperty({ type: DnsPlanSchema })
  data: DnsPlanSchema;
}

class ReceiverSchema {
  @ApiProperty({ example: 1 })
  priority: number;
  @ApiProperty({ example: 'aspmx.l.google.com' })
  target: string;
  @ApiProperty({
    type: 'string',
    nullable: true,
    example: 'Google Workspace',
    description: 'Null when we do not know it.',
  })
  provider: string | null;
}

export class PreflightFindingSchema {
  @ApiProperty({ example: 'mail_is_received', description: 'Stable.' })
  code: string;
  @ApiProperty({ enum: ['info', 'warning', 'blocking'], description: '`blocking`: the domain cannot be added now.' })
  severity: string;
  @ApiProperty({ description: 'For people: what it is, and what to do.' })
  message: string;
}

export class PreflightSchema {
  @ApiProperty({ example: 'mail.acme.com', description: 'Canonical: lower case, A-labels, no trailing dot.' })
  domain: string;
  @ApiPropertyOptional({ example: 'münchen.example.de', description: 'Only of an internationalised name.' })
  domain_unicode?: string;
  @ApiProperty({ example: 'acme.com', description: 'The zone that holds the name, as the DNS has it.' })
  zone: string;
  @ApiProperty({ description: 'Whether nothing blocks it.' })
  can_be_added: boolean;
  @ApiProperty({ description: 'Whether the DNS has the name already.' })
  name_exists: boolean;
  @ApiProperty({
    type: [ReceiverSchema],
    description: 'Who receives its mail now, by priority, 50 at most; empty when nobody does.',
  })
  received_by: ReceiverSchema[];
  @ApiProperty({ type: 'string', nullable: true, description: 'Target of a CNAME at the name.' })
  cname: string | null;
  @ApiProperty({ type: [String], description: 'SPF records at the name.' })
  spf: readonly string[];
  @ApiProperty({ type: [String], description: 'DMARC records of the name itself.' })
  dmarc: readonly string[];
  @ApiProperty({ type: 'string', enum: ['none', 'quarantine', 'reject', null], nullable: true })
  inherited_dmarc: string | null;
  @ApiProperty({ type: [PreflightFindingSchema] })
  findings: PreflightFindingSchema[];
}

export class PreflightEnvelope extends Envelope {
  @ApiProperty({ type: PreflightSchema })
  data: PreflightSchema;
}

export const presentPlan = (
  domain: string,
  zone: string,
  operations: readonly Operation[],
  warnings: readonly PlanWarning[],
): DnsPlanSchema => ({
  domain,
  zone,
  complete:
    operations.every(({ action }) => action === 'keep') && warnings.every(({ severity }) => severity !== 'blocking'),
  warnings: [...warnings, ...zoneOfItsOwn(domain, zone)].map(({ code, severity, message }) => ({
    code,
    severity,
    message: cut(message, limits.text),
  })),
  operations: presentOperations(operations, domain),
});

/** Says how to type a host where the DNS has another zone than the one that all hosts are relative to. */
function zoneOfItsOwn(domain: string, zone: string): PlanWarning[] {
  const usual = registrableDomain(domain);
  if (zone === usual) return [];
  return [
    {
      code: 'zone_of_its_own',
      severity: 'info',
      message: `${zone} is a zone of its own below ${usual}, which every host is relative to. Where its DNS provider asks for a name relative to ${zone}, enter ${relativeHost(domain, zone)} for ${domain}, and so on.`,
    },
  ];
}

/** @param domain whose records they are. */
export const presentOperations = (operations: readonly Operation[], domain: string): OperationSchema[] =>
  shownOperations(operations, escaped).map(({ action, name, type, values, replaces, ttl, reason }) => ({
    action,
    name,
    host: hostOf(domain, name),
    type,
    values: [...values],
    replaces: [...replaces],
    ttl,
    reason,
  }));

/** @param taken why the name is not available; undefined when it is. */
export const presentPreflight = (
  domain: string,
  zone: string,
  { nameExists, receivedBy, cname, spf, dmarc, inheritedDmarc, findings }: Preflight,
  taken?: string,
): PreflightSchema => ({
  domain,
  ...(/(^|\.)xn--/.test(domain) && { domain_unicode: domainToUnicode(domain) }),
  zone,
  can_be_added: taken === undefined,
  name_exists: nameExists,
  received_by: receivedBy.map(({ preference, host, provider }) => ({ priority: preference, target: host, provider })),
  cname,
  spf,
  dmarc,
  inherited_dmarc: inheritedDmarc,
  findings: [
    ...(taken === undefined ? [] : [{ code: 'name_taken', severity: 'blocking', message: taken }]),
    ...findings.map(({ code, severity, message }) => ({ code, severity, message })),
  ],
});

/** Adds the finding that blocks the add of a team with as many domains as it may have, in the words of the refusal. */
export function withinLimit(preflight: PreflightSchema, { current, limit }: QuotaUse): PreflightSchema {
  if (limit === null || current < limit) return preflight;
  const { message } = new QuotaExceeded('domains', { current, limit });
  const finding = { code: 'limit_reached', severity: 'blocking', message };
  return { ...preflight, can_be_added: false, findings: [finding, ...preflight.findings] };
}

import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { IsIn, IsOptional } from 'class-validator';
import type { DnsHost } from '@app/mail-records';
import type { CheckTimes } from '@app/cycle';
import type { DomainView } from '@app/read-model';
import { domainModes } from '@app/mail-records';
import { presentDomain } from '@app/presentation';
import { Envelope, RecordSchema, time, verificationStatuses, type DomainSchema } from '../domains/domain.dto';
import { DnsPlanSchema } from '../domains/plans.dto';

export class SetupQuery {
  @ApiPropertyOptional({
    enum: ['true', 'false'],
    default: 'true',
    description: '`false` asks no resolver: the answer has no `dns_host`, `plan` and `domain_connect`.',
  })
  @IsOptional()
  @IsIn(['true', 'false'], { message: '"plan" must be true or false' })
  plan: 'true' | 'false' = 'true';
}

class DnsHostSchema {
  @ApiProperty({
    type: 'string',
    nullable: true,
    example: 'Cloudflare',
    description: 'Who hosts the zone; null where its name servers are nobody’s that we know.',
  })
  name: string | null;
  @ApiProperty({ example: 'acme.com', description: 'The zone that holds the records, as the DNS has it.' })
  zone: string;
  @ApiProperty({ type: [String], example: ['ada.ns.cloudflare.com'], description: '16 at most.' })
  nameservers: readonly string[];
  @ApiProperty({ type: [String], description: 'For people: how to enter records there, and what trips people.' })
  advice: readonly string[];
}

class DomainConnectSchema {
  @ApiProperty({ example: 'Example DNS', description: 'Who hosts the zone.' })
  provider: string;
  @ApiProperty({ format: 'uri', description: 'A page of theirs that places the records, once their customer agrees.' })
  url: string;
}

export class SetupSchema {
  @ApiProperty({ example: 'mail.acme.com', description: 'Canonical: lower case, A-labels, no trailing dot.' })
  domain: string;
  @ApiPropertyOptional({ example: 'münchen.example.de', description: 'Only of an internationalised name.' })
  domain_unicode?: string;
  @ApiProperty({ enum: domainModes, description: '`send_only`: no MX is asked for.' })
  mode: string;
  @ApiProperty({ enum: verificationStatuses })
  verification_status: string;
  @ApiProperty({ ...time, nullable: true, description: 'Time of the last success.' })
  verified_at: string | null;
  @ApiProperty({ ...time, nullable: true, description: 'When the records were last looked at.' })
  last_checked_at: string | null;
  @ApiProperty({ ...time, nullable: true, description: 'When they are looked at next, without being asked.' })
  next_check_at: string | null;
  @ApiProperty({
    ...time,
    nullable: true,
    description: 'When verifying again can tell more, as the last verification said; null where it said no such time.',
  })
  retry_at: string | null;
  @ApiProperty({ type: [RecordSchema], description: 'The records to place, each with what the last look has seen.' })
  records: RecordSchema[];
  @ApiPropertyOptional({ type: DnsHostSchema, nullable: true, description: 'Null where no resolver tells.' })
  dns_host?: DnsHostSchema | null;
  @ApiPropertyOptional({
    type: DnsPlanSchema,
    nullable: true,
    description: 'What to create, replace, delete and keep, against what is published now; null where an answer lacks.',
  })
  plan?: DnsPlanSchema | null;
  @ApiPropertyOptional({
    type: DomainConnectSchema,
    nullable: true,
    description: 'Where the records can be placed by one click; null where that cannot be done.',
  })
  domain_connect?: DomainConnectSchema | null;
}

export class SetupEnvelope extends Envelope {
  @ApiProperty({ type: SetupSchema })
  data: SetupSchema;
}

/** What is looked up for a setup; absent where nobody asked. */
export interface LookedUp {
  readonly host: DnsHost | null;
  readonly plan: DnsPlanSchema | null;
  readonly domainConnect: DomainConnectSchema | null;
}

/** Presents a domain to whoever sets it up: nothing of its team but the domain. */
export function presentSetup(
  view: DomainView,
  times: CheckTimes,
  retryAt: string | null,
  lookedUp?: LookedUp,
): SetupSchema {
  const domain: DomainSchema = presentDomain(view, times);
  return {
    domain: domain.domain,
    ...(domain.domain_unicode !== undefined && { domain_unicode: domain.domain_unicode }),
    mode: domain.mode,
    verification_status: domain.verification_status,
    verified_at: domain.verified_at,
    last_checked_at: domain.last_checked_at,
    next_check_at: domain.next_check_at,
    retry_at: retryAt,
    records: domain.records,
    ...(lookedUp && {
      dns_host: lookedUp.host,
      plan: lookedUp.plan,
      domain_connect: lookedUp.domainConnect,
    }),
  };
}

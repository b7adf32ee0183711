import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { Type as TransformTo } from 'class-transformer';
import { ArrayMaxSize, IsArray, IsIn, IsObject, IsOptional, IsString, Matches, ValidateNested } from 'class-validator';
import type { SenderFilterMode } from '@app/mail-domain';
import { senderRulesLimit, type SenderRule } from '@app/mailbox';
import { Envelope } from './domain.dto';

const modes = ['off', 'allowlist', 'denylist'] as const satisfies readonly SenderFilterMode[];
const ruleTypes = ['allow', 'deny'] as const satisfies readonly SenderRule['type'][];
const noteFault = { message: '"note" must have at most 255 characters, or be null' };

class FilterRule {
  @ApiProperty({ enum: ruleTypes, description: 'Whether mail of the sender is taken or refused.' })
  @IsIn(ruleTypes, { message: '"type" must be allow or deny' })
  type: SenderRule['type'];

  @ApiProperty({
    example: 'partner.com',
    minLength: 1,
    maxLength: 1000,
    description:
      'An address, or a hostname for all addresses at exactly that hostname, which may be written `*@partner.com`. A rule about the address wins over one about its hostname.',
  })
  @Matches(/^[^]{1,1000}$/, { message: '"pattern" must have 1 to 1000 characters' })
  @IsString({ message: '"pattern" must be an address or a hostname' })
  pattern: string;

  @ApiPropertyOptional({
    type: 'string',
    nullable: true,
    maxLength: 255,
    example: 'billing',
    description: 'What you want to remember of the rule; it decides nothing.',
  })
  @Matches(/^[^]{0,255}$/u, noteFault)
  @IsString(noteFault)
  @IsOptional()
  note?: string | null;
}

export class SetFiltersRequest {
  @ApiProperty({
    enum: modes,
    example: 'allowlist',
    description:
      '`off`: mail of every sender is taken, whatever the rules. `allowlist`: only of senders that a rule allows. `denylist`: of all but those that a rule denies.',
  })
  @IsIn(modes, { message: '"mode" must be off, allowlist or denylist' })
  mode: SenderFilterMode;

  @ApiProperty({
    type: [FilterRule],
    maxItems: senderRulesLimit,
    example: [{ type: 'allow', pattern: 'partner.com', note: 'billing' }],
    description: 'All rules: they replace the earlier.',
  })
  @ValidateNested({ each: true })
  @TransformTo(() => FilterRule)
  @IsObject({ each: true, message: '"rules" must have an object for each rule' })
  @ArrayMaxSize(senderRulesLimit, { message: `"rules" must have at most ${senderRulesLimit} rules` })
  @IsArray({ message: '"rules" must be a list' })
  rules: FilterRule[];
}

class FilterRuleSchema {
  @ApiProperty({ enum: ruleTypes })
  type: SenderRule['type'];
  @ApiProperty({ example: 'partner.com' })
  pattern: string;
  @ApiProperty({ type: 'string', nullable: true, example: 'billing' })
  note: string | null;
}

class FiltersSchema {
  @ApiProperty({ enum: modes })
  mode: string;
  @ApiProperty({ type: [FilterRuleSchema], description: 'Sorted by pattern.' })
  rules: SenderRule[];
}

export class FiltersEnvelope extends Envelope {
  @ApiProperty({ type: FiltersSchema })
  data: FiltersSchema;
}

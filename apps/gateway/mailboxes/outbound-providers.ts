import { ApiProperty } from '@nestjs/swagger';
import { IsString, ValidateIf } from 'class-validator';
import { sendmuxSes } from '@app/mailbox';
import { ApiError } from '../http/api-error';

export class ChooseProviderRequest {
  @ApiProperty({
    type: 'string',
    nullable: true,
    example: sendmuxSes,
    description: 'A provider that is known here; `null` leaves the choice to what stands above.',
  })
  @ValidateIf((_, value) => value !== null)
  @IsString({ message: '"outbound_provider" must be the name of a provider, or null' })
  outbound_provider: string | null;
}

/** Holds the outbound providers that the operator has configured. */
export class OutboundProviders {
  constructor(private readonly names: readonly string[]) {}

  /**
   * @param param the field that the name came in.
   * @throws {ApiError} `validation_error` with the known names.
   */
  assertKnown(name: string | null, param: 'outbound_provider' | 'send_scope' = 'outbound_provider'): void {
    if (name === null || this.names.includes(name)) return;
    throw new ApiError(
      'validation_error',
      `There is no outbound provider "${name.slice(0, 40)}". Send one of: ${this.names.join(', ')}.`,
      { param },
    );
  }
}

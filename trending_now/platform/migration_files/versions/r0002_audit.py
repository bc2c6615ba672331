"The table of what was decided: who, when, why."
import sqlalchemy as sa
from alembic import op

revision, down_revision = '0002', '0001'

def upgrade():
    texts = [sa.Column(name, sa.Text, nullable=False)
             for name in ('subject', 'action', 'by', 'why', 'payload', 'seal')]
    op.create_table(
        'audit', sa.Column('number', sa.Integer, primary_key=True, autoincrement=False),
        sa.Column('at', sa.BigInteger, nullable=False), *texts)

def downgrade(): op.drop_table('audit')
